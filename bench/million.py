"""A million keys in random order: uniform and Zipf accesses beside `dict.get`, and the longest calls.

The keys are fresh string objects, shuffled, so that the objects in the order of access lie at random in
memory; the dict maps each to one shared value, so that the control pays for no value object. The accesses are
cut into chunks, and each step times one chunk for each contender: all get the same chunks in the same order,
but far apart, so that none finds the key objects in the cache because another has just read them.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from time import perf_counter_ns
from typing import Any

from fastlimit import Limiter, TokenBucket

from . import targets
from .harness import Samples, Unavailable, collector_off, compile_loop, run_child
from .rows import Row, missing_rows, timed_row, value_row

BATCH = 1_000
ZIPF_EXPONENT = 1.1
SLOW_BUCKET = TokenBucket("864/day", burst=1_400_000)  # a hit is owed for 100 s, so every key keeps its slot

CONTROL, ALLOW, ALLOW_MANY = "dict.get", "allow", "allow_many"


@dataclass(frozen=True)
class Size:
    """How much to measure: keys, accesses a pass and a chunk, passes; singly timed calls a round, rounds."""

    keys: int
    accesses: int
    chunk: int
    passes: int
    stall_calls: int
    stall_rounds: int


FULL = Size(1_000_000, 1_000_000, 4_000, 4, 20_000, 41)
QUICK = Size(1_000_000, 400_000, 4_000, 1, 10_000, 9)


def fresh_keys(count: int, chance: random.Random) -> list[str]:
    """New string objects, in an order that has nothing to do with where they lie."""
    keys = [f"user:{number:07d}" for number in range(count)]
    chance.shuffle(keys)
    return keys


def uniform(keys: Sequence[str], count: int, chance: random.Random) -> list[str]:
    return chance.choices(keys, k=count)


def zipf(keys: Sequence[str], count: int, chance: random.Random) -> list[str]:
    """Accesses where the key of rank r has weight r^-1.1; the ranks are as random in memory as the keys."""
    weights = list(accumulate((rank + 1) ** -ZIPF_EXPONENT for rank in range(len(keys))))
    return chance.choices(keys, cum_weights=weights, k=count)


def chunks(accesses: Sequence[str], size: int) -> list[Sequence[str]]:
    return [accesses[start : start + size] for start in range(0, len(accesses), size)]


def compare(
    contenders: dict[str, Callable[[Iterable[object]], int]],
    inputs: dict[str, Sequence[Iterable[object]]],
    chunk: int,
    passes: int,
) -> Samples:
    """Nanoseconds per access, side by side: each one's chunk is a share of the pass away from the others'."""
    samples = Samples()
    count = len(inputs[CONTROL])
    with collector_off():
        for step in range(passes * count):
            for place, (name, loop) in enumerate(contenders.items()):
                part = inputs[name][(step + place * count // len(contenders)) % count]
                samples.add(name, loop(part) / chunk)
    return samples


def access_times(accesses: Sequence[str], size: Size, limiter: Limiter, table: dict[str, bool]) -> Samples:
    single = chunks(accesses, size.chunk)
    batched = [chunks(part, BATCH) for part in single]
    contenders = {
        CONTROL: compile_loop("table.get(key)", {"table": table}, over="key"),
        ALLOW: compile_loop("limiter.allow(key)", {"limiter": limiter}, over="key"),
        ALLOW_MANY: compile_loop("limiter.allow_many(keys)", {"limiter": limiter}, over="keys"),
    }
    return compare(contenders, {CONTROL: single, ALLOW: single, ALLOW_MANY: batched}, size.chunk, size.passes)


def call_times(function: Callable[[str], object], keys: Sequence[str]) -> list[int]:
    """How long each call takes, the clock's own time included."""
    times: list[int] = []
    note, clock = times.append, perf_counter_ns
    for key in keys:
        start = clock()
        function(key)
        note(clock() - start)
    return times


def stalls(
    keys: Sequence[str], size: Size, limiter: Limiter, table: dict[str, bool], chance: random.Random
) -> dict[str, Samples]:
    """The 99.9th percentile and the worst call of each round, by contender."""
    found = {"p99.9": Samples(), "worst": Samples()}
    parts = chunks(uniform(keys, size.stall_calls * size.stall_rounds, chance), size.stall_calls)
    contenders: list[tuple[str, Callable[[str], object], int]] = [
        (CONTROL, table.get, 0),
        (ALLOW, limiter.allow, len(parts) // 2),
    ]
    with collector_off():
        for step in range(len(parts)):
            for name, function, ahead in chance.sample(contenders, len(contenders)):
                times = sorted(call_times(function, parts[(step + ahead) % len(parts)]))
                found["p99.9"].add(name, times[int(len(times) * 0.999)])
                found["worst"].add(name, times[-1])
    return found


def measure(size: Size) -> dict[str, Any]:
    """All of this module's samples, and what the limiter says of itself at the end."""
    chance = random.Random(11)
    keys = fresh_keys(size.keys, chance)
    limiter = Limiter(SLOW_BUCKET, max_keys=size.keys)
    table = dict.fromkeys(keys, True)
    fill = compile_loop("limiter.allow(key)", {"limiter": limiter}, over="key")(keys) / size.keys
    times = {
        word: access_times(draw(keys, size.accesses, chance), size, limiter, table).ns
        for word, draw in (("uniform", uniform), ("zipf", zipf))
    }
    longest = {word: samples.ns for word, samples in stalls(keys, size, limiter, table, chance).items()}
    stats = limiter.stats()
    if stats.denied:
        raise RuntimeError(f"every access should be allowed but {stats.denied:,} were denied")
    counts = {"keys": stats.keys, "full_events": stats.full_events}
    return {**times, **longest, "first touch": fill, "limiter": counts}


WANTED = {
    "allow, 1M keys uniform": targets.RANDOM_ALLOW_TO_DICT_GET,
    "allow_many, 1M keys uniform": targets.RANDOM_BATCH_TO_DICT_GET,
    "allow, p99.9 of single calls": targets.STALL_TO_CONTROL,
    "allow, worst of a round's calls": targets.STALL_TO_CONTROL,
}


def rows_of(found: dict[str, Any]) -> list[Row]:
    rows = []
    for word in ("uniform", "zipf"):
        samples = Samples(found[word])
        title = f"1M keys {word}"
        rows.append(timed_row(samples, f"control: dict.get, {title}", CONTROL))
        for name in (ALLOW, ALLOW_MANY):
            what = f"{name}, {title}"
            rows.append(timed_row(samples, what, name, CONTROL, WANTED.get(what)))
    rows.append(value_row("allow, first touch of 1M keys", "ns", [found["first touch"]]))
    for word, what in (
        ("p99.9", "allow, p99.9 of single calls"),
        ("worst", "allow, worst of a round's calls"),
    ):
        rows.append(timed_row(Samples(found[word]), what, ALLOW, CONTROL, WANTED[what]))
    worst = {name: max(values) for name, values in found["worst"].items()}
    rows.append(value_row("allow, worst call of all", "ns", [worst[ALLOW]]))
    rows.append(value_row("control: dict.get, worst call of all", "ns", [worst[CONTROL]]))
    return rows


def run(size: Size) -> tuple[list[Row], dict[str, Any]]:
    """Measures in a process of its own, where the million keys end with it."""
    try:
        found = run_child("bench.million", vars(size))
    except Unavailable as error:
        return missing_rows(WANTED.items(), error), {}
    return rows_of(found), found


if __name__ == "__main__":
    print(json.dumps(measure(Size(**json.loads(sys.argv[1])))))
