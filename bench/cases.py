"""One hot key: the floors, then every entry point under each algorithm."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic

from fastlimit import FixedWindow, LeakyBucket, Limiter, SlidingWindow, TokenBucket, acquire_all

from . import compiled, targets
from .harness import KEY, Contender, Samples, Unavailable, measure
from .rows import Row, timed_row

NO_OP = "no-op method"
DICT_GET = "dict.get"
BATCH = 1_000
HANDLE_CALLS = 10_000

Limit = TokenBucket | LeakyBucket | FixedWindow | SlidingWindow

AMPLE: dict[str, Limit] = {
    "TokenBucket": TokenBucket("1000/s", burst=10**9),
    "LeakyBucket": LeakyBucket("1000/s", capacity=10**9),
    "FixedWindow": FixedWindow("2000000000/hour"),
    "SlidingWindow": SlidingWindow("2000000000/hour"),
}
EXHAUSTED: dict[str, Limit] = {
    "TokenBucket": TokenBucket("1/day"),
    "LeakyBucket": LeakyBucket("1/day"),
    "FixedWindow": FixedWindow("1/day"),
    "SlidingWindow": SlidingWindow("1/day"),
}


def python_function(key: str) -> bool:
    return True


def floors() -> tuple[list[Contender], str]:
    """What no limiter can beat, and why the compiled one is missing, if it is."""
    found = [
        Contender("empty loop", "pass", {}),
        Contender(DICT_GET, "table.get(key)", {"table": {KEY: True}, "key": KEY}),
        Contender("Python function", "function(key)", {"function": python_function, "key": KEY}),
        Contender("time.monotonic", "monotonic()", {"monotonic": monotonic}),
    ]
    try:
        floor = compiled.load("floor").Floor()
    except Unavailable as error:
        return found, str(error)
    return [Contender(NO_OP, "floor.allow(key)", {"floor": floor, "key": KEY}), *found], ""


def allow(algorithm: str, allowed: bool) -> Contender:
    """`allow(key)` on one hot key, of which all or nothing passes."""
    limiter = Limiter((AMPLE if allowed else EXHAUSTED)[algorithm])
    name = f"{algorithm} allow, {'allowed' if allowed else 'denied'}"
    return Contender(name, "limiter.allow(key)", {"limiter": limiter, "key": KEY}, allowed=allowed)


def entry_points(algorithm: str) -> list[Contender]:
    """Every entry point of a limiter with one limit, under names that begin with the algorithm's."""
    ample, exhausted = AMPLE[algorithm], EXHAUSTED[algorithm]
    keys = [f"user:{number:06d}" for number in range(BATCH)]
    adjusted = Limiter(ample)
    adjusted.debit(KEY, 1_000_000)  # a refund has something to give back
    found = [allow(algorithm, True), allow(algorithm, False)]
    for word, allowed, limit in (("allowed", True, ample), ("denied", False, exhausted)):
        limiter = {"limiter": Limiter(limit), "key": KEY}
        handle = {"bucket": Limiter(limit).bucket(KEY)}
        found += [
            Contender(f"{algorithm} acquire, {word}", "limiter.acquire(key)", limiter, allowed=allowed),
            Contender(f"{algorithm} handle allow, {word}", "bucket.allow()", handle, allowed=allowed),
        ]
    found += [
        Contender(
            f"{algorithm} peek", "limiter.peek(key)", {"limiter": Limiter(ample), "key": KEY}, allowed=True
        ),
        Contender(
            f"{algorithm} debit, refund",
            "limiter.debit(key); limiter.refund(key)",
            {"limiter": adjusted, "key": KEY},
            calls=2,
        ),
    ]
    for name, batch in ((f"{BATCH:,} keys", keys), (f"one key {BATCH:,} times", [KEY] * BATCH)):
        names = {"limiter": Limiter(ample), "keys": batch}
        found.append(
            Contender(
                f"{algorithm} allow_many, {name}", "limiter.allow_many(keys)", names, BATCH, "all(r)", True
            )
        )
    return found


def several_limits() -> list[Contender]:
    """Two limits on one key, and three limiters at once, token buckets all."""
    second = TokenBucket("2M/s", burst=10**9)
    found = []
    for word, allowed, table in (("allowed", True, AMPLE), ("denied", False, EXHAUSTED)):
        limit = table["TokenBucket"]
        two = Limiter([limit, second])
        limiters = {"a": Limiter(second), "b": Limiter(second), "c": Limiter(limit)}
        triples = [(limiter, f"key {name}", 1) for name, limiter in limiters.items()]
        found += [
            Contender(
                f"two limits allow, {word}",
                "limiter.allow(key)",
                {"limiter": two, "key": KEY},
                allowed=allowed,
            ),
            Contender(
                f"acquire_all of three, {word}",
                "acquire_all([(a, 'key a', 1), (b, 'key b', 1), (c, 'key c', 1)])",
                {"acquire_all": acquire_all, **limiters},
                allowed=allowed,
            ),
            Contender(
                f"acquire_all of three, {word}, list kept",
                "acquire_all(triples)",
                {"acquire_all": acquire_all, "triples": triples},
                allowed=allowed,
            ),
        ]
    return found


def handles() -> tuple[list[Contender], str]:
    """The `cimport`ed decision in a C loop, and why it is missing, if it is."""
    try:
        count_allowed = compiled.load("handle").count_allowed
    except Unavailable as error:
        return [], str(error)
    return [
        Contender(
            f"{algorithm} bucket_allow",
            "count(bucket, calls)",
            {"count": count_allowed, "bucket": Limiter(limit).bucket(KEY), "calls": HANDLE_CALLS},
            calls=HANDLE_CALLS,
            verdict=f"r == {HANDLE_CALLS}",
            allowed=True,
        )
        for algorithm, limit in AMPLE.items()
    ], ""


def algorithm_rows(samples: Samples, algorithm: str, no_floor: str, no_handle: str) -> list[Row]:
    rows = []
    for word in ("allowed", "denied"):
        name = f"{algorithm} allow, {word}"
        rows += [
            timed_row(samples, name, name, NO_OP, targets.ALLOW_TO_NO_OP, no_floor),
            timed_row(samples, name, name, DICT_GET, targets.ALLOW_TO_DICT_GET),
        ]
    for word in ("allowed", "denied"):
        base = f"{algorithm} allow, {word}"
        acquire, handle = f"{algorithm} acquire, {word}", f"{algorithm} handle allow, {word}"
        rows += [
            timed_row(samples, acquire, acquire, base, targets.ACQUIRE_TO_ALLOW),
            timed_row(samples, handle, handle, base),
        ]
    rows += [
        timed_row(samples, name, name, f"{algorithm} allow, allowed")
        for name in (f"{algorithm} peek", f"{algorithm} debit, refund")
    ]
    batches = (f"{algorithm} allow_many, {BATCH:,} keys", f"{algorithm} allow_many, one key {BATCH:,} times")
    rows += [timed_row(samples, name, name, target=targets.BATCH_HOT_NS) for name in batches]
    name = f"{algorithm} bucket_allow"
    return [*rows, timed_row(samples, f"{name}, nogil", name, target=targets.HANDLE_NS, missing=no_handle)]


def several_rows(samples: Samples, contenders: Sequence[Contender]) -> list[Row]:
    return [
        timed_row(
            samples,
            contender.name,
            contender.name,
            f"TokenBucket allow, {'allowed' if contender.allowed else 'denied'}",
            targets.TWO_LIMITS_TO_ALLOW if "two" in contender.name else targets.THREE_LIMITERS_TO_ALLOW,
        )
        for contender in contenders
    ]


def run(rounds: int) -> tuple[list[Row], dict[str, list[float]]]:
    """Measures all of it in the calling process."""
    lowest, no_floor = floors()
    several = several_limits()
    nogil, no_handle = handles()
    per_algorithm = [contender for algorithm in AMPLE for contender in entry_points(algorithm)]
    samples = measure([*lowest, *per_algorithm, *several, *nogil], rounds)
    rows = [timed_row(samples, f"floor: {NO_OP}", NO_OP, missing=no_floor)]
    rows += [timed_row(samples, f"floor: {each.name}", each.name) for each in lowest if each.name != NO_OP]
    for algorithm in AMPLE:
        rows += algorithm_rows(samples, algorithm, no_floor, no_handle)
    return rows + several_rows(samples, several), samples.ns
