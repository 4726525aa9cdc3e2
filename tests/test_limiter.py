"""The public surface of a limiter: what each method does, with one limit and with several."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from fastlimit import (
    Bucket,
    CostExceedsLimit,
    Decision,
    FixedWindow,
    InvalidLimit,
    LeakyBucket,
    Limiter,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
    acquire_all,
)
from fastlimit.limits import Limit
from fastlimit.testing import ManualClock

NOON = 1_000 * 60.0  # the start of a minute's window

ALGORITHMS: list[Limit] = [
    TokenBucket("5/min"),
    LeakyBucket("5/min"),
    FixedWindow("5/min"),
    FixedWindow("5/min", anchor="first"),
    SlidingWindow("5/min"),
    SlidingLog("5/min"),
]

# When all 5 were used up at once: retry_after of one more, reset_after, delay of the fifth.
WAITS = {
    TokenBucket: (12.0, 60.0, 0.0),
    LeakyBucket: (12.0, 60.0, 48.0),
    FixedWindow: (60.0, 60.0, 0.0),
    SlidingWindow: (72.0, 120.0, 0.0),
    SlidingLog: (60.0, 60.0, 0.0),
}

by_algorithm = pytest.mark.parametrize("limit", ALGORITHMS, ids=str)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


def fields(decision: Decision) -> tuple[bool, int, float, float, float]:
    one = decision
    return one.allowed, one.remaining, one.retry_after, one.reset_after, one.delay


# --- one limit


@by_algorithm
def test_a_limit_is_used_up_and_comes_back(limit: Limit, clock: ManualClock) -> None:
    limiter = Limiter(limit, clock=clock)
    retry_after, reset_after, delay = WAITS[type(limit)]
    assert [True] * 4 == [limiter.allow("a") for _ in range(4)]
    assert (True, 0, 0.0, reset_after, delay) == fields(limiter.acquire("a"))
    assert (False, 0, retry_after, reset_after, 0.0) == fields(limiter.acquire("a"))
    assert [False, True] == [limiter.allow("a"), limiter.allow("b")]
    start = clock.now_ns
    clock.set_ns(start + round(retry_after * 10**9) - 1)
    assert not limiter.allow("a")
    clock.advance_ns(1)
    assert limiter.allow("a")
    clock.set_ns(start + 3 * 60 * 10**9)
    assert (True, 4, 0.0) == fields(limiter.acquire("a"))[:3]


@by_algorithm
def test_a_refused_call_charges_nothing(limit: Limit, clock: ManualClock) -> None:
    limiter = Limiter(limit, clock=clock)
    assert limiter.acquire("a", 3)
    assert [False] * 100 == [limiter.acquire("a", 3).allowed for _ in range(100)]
    assert limiter.acquire("a", 2)


@by_algorithm
def test_peek_tells_and_changes_nothing(limit: Limit, clock: ManualClock) -> None:
    limiter = Limiter(limit, clock=clock)
    assert (True, 5, 0.0, 0.0, 0.0) == fields(limiter.peek("a"))
    limiter.acquire("a", 3)
    looks = [limiter.peek("a", cost) for cost in (0, 1, 2)]
    assert [(True, 2, 0.0)] * 3 == [fields(look)[:3] for look in looks]
    refused = limiter.peek("a", cost=3)
    assert (False, 2) == fields(refused)[:2]
    assert refused == limiter.peek("a", cost=3) == limiter.acquire("a", cost=3)
    assert 0 < refused.retry_after
    assert limiter.acquire("a", 2)


@by_algorithm
def test_refund_gives_back_up_to_fresh(limit: Limit, clock: ManualClock) -> None:
    limiter = Limiter(limit, clock=clock)
    assert (True, 5, 0.0, 0.0, 0.0) == fields(limiter.refund("a"))
    limiter.acquire("a", 5)
    assert (True, 3, 0.0) == fields(limiter.refund("a", cost=3))[:3]
    assert [True, False] == [limiter.acquire("a", 3).allowed, limiter.allow("a")]
    assert (True, 5, 0.0, 0.0, 0.0) == fields(limiter.refund("a", cost=100))
    assert [True, False] == [limiter.acquire("a", 5).allowed, limiter.allow("a")]


@by_algorithm
def test_debit_charges_what_there_is_no_room_for(limit: Limit, clock: ManualClock) -> None:
    limiter = Limiter(limit, clock=clock)
    debited = limiter.debit("a", cost=7)
    assert (True, 0, 0.0, 0.0) == (debited.allowed, debited.remaining, debited.retry_after, debited.delay)
    assert not limiter.allow("a")
    limiter.refund("a", 2)
    assert not limiter.allow("a")
    limiter.refund("a", 1)
    assert [True, False] == [limiter.allow("a"), limiter.allow("a")]
    assert 0 == limiter.stats().clamped_debits


@by_algorithm
def test_debit_stops_at_twice_the_capacity(limit: Limit, clock: ManualClock) -> None:
    limiter = Limiter(limit, clock=clock)
    for cost, clamped in [(10, 0), (1, 1), (1_000, 2)]:
        limiter.debit("a", cost)
        assert clamped == limiter.stats().clamped_debits
    limiter.refund("a", 9)
    assert (True, 4) == fields(limiter.peek("a"))[:2]


@by_algorithm
def test_reset_makes_a_key_fresh(limit: Limit, clock: ManualClock) -> None:
    limiter = Limiter(limit, clock=clock)
    fresh = limiter.peek("a")
    limiter.debit("a", 9)
    assert limiter.reset("a") is None  # type: ignore[func-returns-value]
    limiter.reset("b")
    assert [fresh, fresh, 0] == [limiter.peek("a"), limiter.peek("b"), limiter.stats().keys]


@by_algorithm
def test_allow_many_decides_in_order(limit: Limit, clock: ManualClock) -> None:
    limiter = Limiter(limit, clock=clock)
    keys = ["a", "b", "a"] * 3
    assert bytes([1, 1, 1, 1, 1, 1, 0, 1, 0]) == limiter.allow_many(keys, costs=[1, 1, 3, 1, 1, 0, 1, 1, 2])
    assert b"" == limiter.allow_many([])
    assert [0, 2] == [limiter.peek(key).remaining for key in "ab"]


def test_allow_many_takes_any_iterables(clock: ManualClock) -> None:
    limiter = Limiter("2/min", clock=clock)
    batches: list[Any] = [
        ["a", "a"],
        ("b", "b"),
        iter(["c", "c"]),
        {"d": 1, ("d",): 2},
        (key for key in [b"a", b"a"]),
    ]
    assert [b"\1\1"] * 5 == [limiter.allow_many(batch) for batch in batches]
    assert b"\0\1\1" == limiter.allow_many(iter(["a", "e", "e"]), costs=iter([1, 1, 1]))


@pytest.mark.parametrize("size", [1, 31, 32, 33, 10_000])
def test_allow_many_is_allow_for_each(size: int, clock: ManualClock) -> None:
    one_by_one, batch = Limiter("3/min", clock=clock), Limiter("3/min", clock=clock)
    keys = [f"user:{i * i % (size // 2 + 1)}" for i in range(size)]
    assert bytes(map(one_by_one.allow, keys)) == batch.allow_many(keys)
    assert one_by_one.stats() == batch.stats()
    assert one_by_one.top(64) == batch.top(64)


def test_allow_many_checks_everything_first(clock: ManualClock) -> None:
    limiter = Limiter("5/min", name="api", clock=clock)
    for keys, costs, error, message in [
        (["a", 1], None, TypeError, "keys[1]: key must be a str, bytes or a tuple of them, not int"),
        (
            ["a", "b"],
            [1, -1],
            ValueError,
            "costs[1]: cost must be 0 or more, not -1; to give back, call refund",
        ),
        (["a", "b"], [1], ValueError, "costs must be as many as keys, 2, not 1"),
        (["a"], [1, 1], ValueError, "costs must be as many as keys, 1, not 2"),
        ("ab", None, TypeError, "keys must be an iterable of keys, not str"),
        (b"ab", None, TypeError, "keys must be an iterable of keys, not bytes"),
        (None, None, TypeError, "keys must be an iterable of keys, not NoneType"),
        (["a"], 1, TypeError, "costs must be an iterable of costs, not int"),
    ]:
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            limiter.allow_many(keys, costs)  # type: ignore[arg-type]
    with pytest.raises(CostExceedsLimit, match=r"^costs\[0\]: cost 6 is above what api can ever grant, 5;"):
        limiter.allow_many(["a"], [6])
    assert (5, 0, 0) == (limiter.peek("a").remaining, limiter.stats().allowed, limiter.stats().denied)


# --- a handle on one key


@by_algorithm
def test_a_bucket_does_what_its_limiter_does(limit: Limit, clock: ManualClock) -> None:
    plain, handled = Limiter(limit, name="api", clock=clock), Limiter(limit, name="api", clock=clock)
    bucket = handled.bucket(("user", b"42"))
    assert isinstance(bucket, Bucket)
    assert (handled, ("user", b"42")) == (bucket.limiter, bucket.key)
    calls: list[tuple[str, list[int]]] = [
        ("peek", []),
        ("acquire", []),
        ("acquire", [2]),
        ("allow", []),
        ("debit", [3]),
        ("acquire", [1]),
        ("allow", []),
        ("peek", [2]),
        ("refund", [4]),
        ("acquire", [0]),
        ("reset", []),
        ("acquire", [5]),
        ("allow", []),
    ]
    for name, arguments in calls:
        expected = getattr(plain, name)(("user", b"42"), *arguments)
        assert expected == getattr(bucket, name)(*arguments)
        clock.advance(0.5)
    assert (plain.stats(), plain.top()) == (handled.stats(), handled.top())


def test_a_bucket_stays_with_its_key_when_others_take_the_slot(clock: ManualClock) -> None:
    limiter = Limiter("5/min", max_keys=1, clock=clock)
    bucket = limiter.bucket("a")
    assert 4 == bucket.acquire().remaining
    clock.advance(60)
    for number in range(40):
        assert limiter.allow(f"other:{number}")
    assert 4 == bucket.acquire().remaining
    assert [4, 4] == [limiter.peek("a").remaining, limiter.peek("other:7").remaining]


def test_a_bucket_prints_its_key_and_limiter(clock: ManualClock) -> None:
    assert "<Bucket 'a' of <Limiter '5/min', name='api'>>" == repr(Limiter("5/min", name="api").bucket("a"))


# --- several limits


def test_several_limits_pass_together_or_not_at_all(clock: ManualClock) -> None:
    limiter = Limiter(["3/s", "5/min"], name="api", clock=clock)
    first = limiter.acquire("a", 3)
    assert (True, 0, 3, "api[0]") == (first.allowed, first.remaining, first.limit, first.name)
    assert 36.0 == first.reset_after
    refused = limiter.acquire("a")
    assert (False, 0, 3, "api[0]") == (refused.allowed, refused.remaining, refused.limit, refused.name)
    assert (333_333_333, 36.0) == (refused.retry_after_ns, refused.reset_after)
    clock.advance(1)
    assert limiter.acquire("a", 2)
    second = limiter.acquire("a", 1)
    assert (False, 0, 5, "api[1]") == (second.allowed, second.remaining, second.limit, second.name)
    assert 11.0 == second.retry_after


def test_the_least_left_binds_an_allowed_call_and_the_first_of_equals() -> None:
    for limit, name in [("9/s; 5/min", "api[1]"), ("5/min; 9/s", "api[0]"), ("5/min; 5/h", "api[0]")]:
        assert name == Limiter(limit, name="api").acquire("a").name


def test_limits_are_named_after_the_limiter_or_by_their_text(clock: ManualClock) -> None:
    named: list[tuple[Limiter, str]] = [
        (Limiter("5/min", name="api"), "api"),
        (Limiter("5/min"), "5/min"),
        (Limiter("leaky-bucket 5/min capacity 9"), "leaky-bucket 5/min capacity 9"),
        (Limiter("5/min; 9/s", name="api"), "api[0]"),
        (Limiter("5/min; 9/s"), "5/min"),
        (Limiter("5/min", name=""), ""),
    ]
    assert [name for _, name in named] == [limiter.acquire("a").name for limiter, _ in named]


def test_the_longest_delay_is_the_one_to_keep(clock: ManualClock) -> None:
    limiter = Limiter("leaky-bucket 10/s; leaky-bucket 5/min; 100/h", clock=clock)
    limiter.acquire("a", 2)
    assert 24.0 == limiter.acquire("a").delay
    assert 0.0 == limiter.acquire("a", 4).delay


# --- several limiters


def test_acquire_all_charges_all_or_none(clock: ManualClock) -> None:
    user, host = Limiter("2/min", name="user", clock=clock), Limiter("3/min", name="host", clock=clock)
    first = acquire_all([(user, "a", 1), (host, "all", 1)])
    assert (True, 1, 2, "user") == (first.allowed, first.remaining, first.limit, first.name)
    assert acquire_all([(user, "b", 2), (host, "all", 2)])
    refused = acquire_all([(user, "a", 1), (host, "all", 1)])
    assert (False, 0, 20.0, "host") == (refused.allowed, refused.remaining, refused.retry_after, refused.name)
    assert 1 == user.peek("a").remaining
    assert [("all", 1)] == host.top()
    assert [[], (2, 0), (2, 1)] == [
        user.top(),
        (user.stats().allowed, user.stats().denied),
        (host.stats().allowed, host.stats().denied),
    ]


def test_acquire_all_adds_up_what_meets_the_same_bucket(clock: ManualClock) -> None:
    limiter = Limiter("5/min", name="api", clock=clock)
    assert 0 == acquire_all([(limiter, "a", 2), (limiter, ("a",), 5), (limiter, "a", 3)]).remaining
    refused = acquire_all([(limiter, "a", 1), (limiter, "b", 1), (limiter, "a", 1)])
    assert (False, 24.0) == (refused.allowed, refused.retry_after)
    assert (5, 2, 1) == (limiter.peek("b").remaining, limiter.stats().allowed, limiter.stats().denied)


def test_acquire_all_takes_any_iterable_of_triples_and_no_other(clock: ManualClock) -> None:
    limiter = Limiter("5/min", clock=clock)
    assert 3 == acquire_all((limiter, "a", cost) for cost in (1, 1)).remaining
    with pytest.raises(TypeError, match="triples must be an iterable of triples, not NoneType"):
        acquire_all(None)  # type: ignore[arg-type]


# --- changing the limit


@pytest.mark.parametrize(
    ("limit", "more", "less"),
    [
        ("5/min", "8/min", "2/min"),
        ("leaky-bucket 5/min", "leaky-bucket 8/min", "leaky-bucket 2/min"),
        ("fixed-window 5/min", "fixed-window 8/min", "fixed-window 2/min"),
        ("fixed-window 5/min", "fixed-window 8/h", "fixed-window 2/h"),
        ("sliding-window 5/min", "sliding-window 8/min", "sliding-window 2/min"),
    ],
)
def test_update_keeps_what_is_owed(limit: str, more: str, less: str, clock: ManualClock) -> None:
    limiter = Limiter(limit, name="api", clock=clock)
    limiter.acquire("a", 3)
    limiter.debit("b", 9)
    assert limiter.update(more) is None  # type: ignore[func-returns-value]
    assert [5, 8, 8] == [limiter.peek("a").remaining, limiter.peek("c").remaining, limiter.peek("c").limit]
    assert [True, False, False] == [limiter.acquire("a", 5).allowed, limiter.allow("a"), limiter.allow("b")]
    limiter.refund("b", 2)
    assert [True, False] == [limiter.allow("b"), limiter.allow("b")]
    limiter.update(less)  # twice the new capacity is the most that is owed
    limiter.refund("a", 3)
    assert [True, False] == [limiter.allow("a"), limiter.allow("a")]
    with pytest.raises(CostExceedsLimit, match=r"above what api can ever grant, 2;"):
        limiter.acquire("c", 3)


def test_update_changes_names_and_limits_with_the_numbers(clock: ManualClock) -> None:
    limiter = Limiter("5/min; fixed-window 7/h", clock=clock)
    assert (TokenBucket("5/min"), FixedWindow("7/h")) == limiter.limits
    limiter.update(["6/min", FixedWindow("8/h")])
    assert (TokenBucket("6/min"), FixedWindow("8/h")) == limiter.limits
    assert ("6/min", 6, "<Limiter '6/min; fixed-window 8/h'>") == (
        limiter.peek("a").name,
        limiter.peek("a").limit,
        repr(limiter),
    )


def test_update_keeps_a_first_window_open(clock: ManualClock) -> None:
    limiter = Limiter(FixedWindow("5/min", anchor="first"), clock=clock)
    limiter.acquire("a", 5)
    clock.advance(50)
    limiter.update(FixedWindow("6/min", anchor="first"))
    assert [True, False, 10.0] == [limiter.allow("a"), limiter.allow("a"), limiter.peek("a").retry_after]


def test_new_keys_start_fresh_after_an_update_and_a_step_back(clock: ManualClock) -> None:
    limiter = Limiter("5/min", clock=clock)
    limiter.update("6/min")
    clock.set(0)
    assert (True, 6, 0.0, 0.0, 0.0) == fields(limiter.peek("a"))


@pytest.mark.parametrize(
    ("limit", "other", "message"),
    [
        ("5/min", "leaky-bucket 5/min", "has token-bucket, not leaky-bucket"),
        ("5/min", "5/min; 6/min", "has token-bucket, not token-bucket, token-bucket"),
        (
            "5/min; sliding-window 6/min",
            "sliding-window 6/min; 5/min",
            "has token-bucket, sliding-window, not sliding",
        ),
        ("fixed-window 5/min", FixedWindow("5/min", anchor="first"), "has fixed-window, not first-window"),
        ("5/min", "0/min", "expected a count of at least 1"),
    ],
)
def test_update_refuses_other_algorithms(
    limit: str, other: str | Limit, message: str, clock: ManualClock
) -> None:
    limiter = Limiter(limit, clock=clock)
    limiter.acquire("a", 2)
    before = limiter.peek("a"), limiter.limits, limiter.stats()
    with pytest.raises(InvalidLimit, match=message):
        limiter.update(other)
    assert before == (limiter.peek("a"), limiter.limits, limiter.stats())


# --- building one


def test_defaults_and_attributes(clock: ManualClock) -> None:
    limiter = Limiter("5/min")
    assert (None, 65_536, (TokenBucket("5/min"),)) == (limiter.name, limiter.max_keys, limiter.limits)
    assert "<Limiter '5/min'>" == repr(limiter)
    other = Limiter(
        [SlidingWindow("5/min"), "9/h"], name="api", max_keys=1_000, when_full="deny", clock=clock, top=False
    )
    assert ("api", 1_000, (SlidingWindow("5/min"), TokenBucket("9/h"))) == (
        other.name,
        other.max_keys,
        other.limits,
    )
    assert "<Limiter 'sliding-window 5/min; 9/h', name='api'>" == repr(other)
    for name in ("name", "max_keys", "limits"):
        with pytest.raises(AttributeError, match="not writable"):
            setattr(limiter, name, None)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"limit": 5}, TypeError, "limit must be a text, a limit or a list of them, not int"),
        ({"limit": "5/min", "name": 1}, TypeError, "name must be a str or None, not int"),
        ({"limit": "5/min", "max_keys": 0}, ValueError, "max_keys must be from 1 to 2^30, not 0"),
        (
            {"limit": "5/min", "max_keys": 2**30 + 1},
            ValueError,
            "max_keys must be from 1 to 2^30, not 1,073,741,825",
        ),
        (
            {"limit": "5/min", "max_keys": 10**5_000},
            ValueError,
            "max_keys must be from 1 to 2^30, not an int of 16,610 bits",
        ),
        ({"limit": "5/min", "max_keys": 1e3}, TypeError, "max_keys must be an int or None, not float"),
        ({"limit": "5/min", "max_keys": True}, TypeError, "max_keys must be an int or None, not bool"),
        (
            {"limit": "5/min", "when_full": "evict"},
            ValueError,
            "when_full must be 'share', 'deny' or 'allow', not 'evict'",
        ),
        (
            {"limit": "5/min", "when_full": ["deny"]},
            ValueError,
            "when_full must be 'share', 'deny' or 'allow', not ['deny']",
        ),
        (
            {"limit": "5/min", "clock": 0.0},
            TypeError,
            "clock must be a fastlimit.testing.ManualClock or None, not float",
        ),
        ({"limit": "5/min", "top": 1}, TypeError, "top must be a bool, not int"),
        (
            {"limit": "sliding-log 5/min", "max_log_bytes": 1e6},
            TypeError,
            "max_log_bytes must be an int, not float",
        ),
        (
            {"limit": "sliding-log 5/min", "max_log_bytes": -1},
            ValueError,
            "max_log_bytes must be 0 or more, not -1",
        ),
        (
            {"limit": "sliding-log 1000/min", "max_keys": 100_000},
            ValueError,
            "the log of a SlidingLog for max_keys=100,000 takes 8,745,517,056 bytes of address space, above"
            " max_log_bytes=1,073,741,824; lower max_keys or its count, or raise max_log_bytes",
        ),
        ({"limit": "5/min", "burst": 1}, TypeError, "__init__() got an unexpected keyword argument 'burst'"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        Limiter(**options)


@pytest.mark.parametrize("build", [lambda: Limiter("5/min"), lambda: Limiter("5/min; sliding-window 9/min")])
def test_a_limiter_on_the_real_clock_decides(build: Callable[[], Limiter]) -> None:
    limiter = build()
    assert [True] * 5 == [limiter.allow("a") for _ in range(5)]
    assert 0 < limiter.debit("a", 4).reset_after <= 120.0
    refused = limiter.acquire("a")
    assert (False, 0) == (refused.allowed, refused.remaining)
    assert 36.0 < refused.retry_after <= 84.0
