"""Bad input, rows K10 to K14, K18 and K20: limits that are wrong, and too many. No error charges anything."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import combinations
from typing import Any

import pytest
from refusals import ALGORITHMS, BYSTANDER, by_algorithm, expect_refusal, limiter_of, picture

from fastlimit import (
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

SECOND = 10**9

# --- K10 to K14: limits

DENY = "; to deny everything, deny by policy"
TO_ALLOW_NONE = " (to allow none, deny by policy instead)"


def unreadable(text: str, expected: str, at: int) -> str:
    return f"cannot read limit {text!r}: expected {expected}\n  {text}\n  {' ' * at}^"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Limiter("0/s"), unreadable("0/s", f"a count of at least 1{TO_ALLOW_NONE}", 0)),
        (lambda: Limiter("0.0k/s"), unreadable("0.0k/s", f"a count of at least 1{TO_ALLOW_NONE}", 0)),
        (lambda: Limiter("1/s burst 0"), unreadable("1/s burst 0", "a burst of at least 1", 10)),
        (
            lambda: Limiter(TokenBucket("1/s", burst=0)),
            f"TokenBucket: burst must be between 1 and 1,000,000,000, not 0{DENY}",
        ),
        (
            lambda: Limiter(LeakyBucket("1/s", capacity=0)),
            f"LeakyBucket: capacity must be between 1 and 1,000,000,000, not 0{DENY}",
        ),
    ],
)
def test_k10_a_limit_of_nothing(build: Callable[[], Limiter], message: str) -> None:
    with expect_refusal(InvalidLimit, message):
        build()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Limiter(f"{2**63}/s"), unreadable(f"{2**63}/s", "a count of at most 10^12", 0)),
        (
            lambda: Limiter(TokenBucket("1/s", burst=2**63)),
            "TokenBucket: burst must be between 1 and 1,000,000,000, not 9,223,372,036,854,775,808",
        ),
        (
            lambda: Limiter("fixed-window 3000M/h"),
            "FixedWindow: count must be between 1 and 2,147,483,647, not 3,000,000,000",
        ),
    ],
)
def test_k11_limits_beyond_64_bits(build: Callable[[], Limiter], message: str) -> None:
    with expect_refusal(InvalidLimit, message):
        build()


@pytest.mark.parametrize(
    "limit",
    [
        TokenBucket("1000M/s"),
        TokenBucket("1/3652days", burst=10),
        LeakyBucket("1/3s", capacity=10**9),
        FixedWindow("1000M/s"),
        FixedWindow("2147483647/100years"),
        FixedWindow("10/36525days", anchor="first"),
        SlidingWindow("2147483647/36525days"),
        SlidingLog("65536/1461days"),
    ],
    ids=str,
)
def test_k11_nothing_overflows_at_the_largest_numbers(limit: Limit) -> None:
    limiter = limiter_of(limit)
    capacity = limit.parameters().capacity
    assert (True, 0) == (limiter.acquire("a", capacity).allowed, limiter.peek("a", 0).remaining)
    refused = limiter.acquire("a")
    assert not refused.allowed
    deep = [limiter.debit("a", 2**63 - 1) for _ in range(3)]
    assert deep[0] == deep[1] == deep[2]
    assert 0 == deep[0].remaining
    assert 0 < refused.retry_after_ns <= refused.reset_after_ns <= deep[0].reset_after_ns
    assert 3 == limiter.stats().clamped_debits
    assert (True, capacity, 0) == (
        limiter.refund("a", 2**63 - 1).allowed,
        limiter.peek("a").remaining,
        limiter.peek("a").reset_after_ns,
    )


def test_k12_rates_above_one_a_nanosecond() -> None:
    with expect_refusal(InvalidLimit, "TokenBucket: the rate must be at most 10^9 per second, not 2/ns"):
        Limiter("2/ns")
    clock = ManualClock(1_000.0)
    limiter = Limiter("1/ns", clock=clock)
    for _ in range(3):
        assert [True, False] == [limiter.allow("a"), limiter.allow("a")]
        clock.advance_ns(1)


def test_k13_one_per_ten_years() -> None:
    too_long = "burst 100 at 1/3652days takes over 100 years to come back; lower burst or raise the rate"
    with expect_refusal(InvalidLimit, f"TokenBucket: {too_long}"):
        Limiter("1/3652days burst 100")
    clock = ManualClock(1_000.0)
    limiter = Limiter("1/3652days burst 10", clock=clock)
    period = 3_652 * 86_400 * SECOND
    assert limiter.acquire("a", 10)
    refused = limiter.acquire("a")
    assert abs(Fraction(refused.retry_after_ns, period) - 1) < Fraction(1, 10**6)
    clock.advance_ns(refused.retry_after_ns - 1)
    assert not limiter.allow("a")
    clock.advance_ns(1)
    assert [True, False] == [limiter.allow("a"), limiter.allow("a")]


def test_k14_periods_and_rates_that_floats_cannot_hold() -> None:
    expected = "a whole number of units, at least 1 (write 1500ms for 1.5s)"
    with expect_refusal(InvalidLimit, unreadable("1/0.1s", expected, 2)):
        Limiter("1/0.1s")
    expected = "a whole count (write 1/2s for one every two seconds)"
    with expect_refusal(InvalidLimit, unreadable("0.5/s", expected, 0)):
        Limiter("0.5/s")
    assert 0.1 == limiter_of("1/100ms").acquire("a").reset_after


@pytest.mark.parametrize("text", ["1/3s", "3/s", "7/11s", "1/100ms"])
def test_k14_rates_are_exact_to_a_unit_of_time_in_10_to_the_9_grants(text: str) -> None:
    limit = TokenBucket(text, burst=10**9)
    unit_ns = Fraction(2**64, limit.parameters().multiplier or 2**64)
    exact = 10**9 * Fraction(limit.rate.period_ns, limit.rate.count)
    assert abs(limiter_of(limit).acquire("a", 10**9).reset_after_ns - exact) <= unit_ns
    assert 21 > unit_ns


# --- K18 and K20: many limits


def test_k18_more_limits_than_a_call_may_meet() -> None:
    with expect_refusal(InvalidLimit, "a limiter takes from 1 to 8 limits, not 1000"):
        Limiter(["1/s"] * 1_000)
    limiter = limiter_of()
    for number in (9, 1_000):
        message = f"acquire_all takes from 1 to 8 triples (limiter, key, cost), not {number}"
        with expect_refusal(ValueError, message, limiter):
            acquire_all([(limiter, BYSTANDER, 1)] * number)
    with expect_refusal(
        ValueError, "acquire_all takes from 1 to 8 triples (limiter, key, cost), not 0", limiter
    ):
        acquire_all([])


def test_k18_the_most_that_a_call_may_meet() -> None:
    clock = ManualClock(1_000.0)
    limiters = [
        Limiter([f"{10 + 8 * i + j}/min" for j in range(8)], name=f"l{i}", clock=clock) for i in range(8)
    ]
    decision = acquire_all([(limiter, BYSTANDER, 10) for limiter in limiters])
    assert (True, 0, 10, "l0[0]") == (decision.allowed, decision.remaining, decision.limit, decision.name)
    before = [picture(limiter)[2] for limiter in limiters]
    refused = acquire_all([(limiter, BYSTANDER, 1) for limiter in limiters])
    assert (False, "l0[0]") == (refused.allowed, refused.name)
    assert before == [picture(limiter)[2] for limiter in limiters]


@pytest.mark.parametrize(
    ("triple", "error", "message"),
    [
        (("limiter", "a", 1), TypeError, "must begin with a Limiter, not str"),
        (("a", 1), TypeError, "must be a tuple (limiter, key, cost), not ('a', 1)"),
        ([1, 2, 3], TypeError, "must be a tuple (limiter, key, cost), not [1, 2, 3]"),
        (None, TypeError, "must be a tuple (limiter, key, cost), not None"),
    ],
)
def test_k18_a_bad_triple_is_named_and_nothing_charged(
    triple: Any, error: type[Exception], message: str
) -> None:
    limiter = limiter_of()
    with expect_refusal(error, f"triples[1]: {message}", limiter):
        acquire_all([(limiter, BYSTANDER, 1), triple])


def test_k18_clocks_must_not_be_mixed() -> None:
    manual, other, real = limiter_of(), limiter_of(), Limiter("5/min")
    message = "triples[1]: its limiter has another clock than the first one; give both the same clock"
    for first, second in [(manual, other), (manual, real), (real, manual)]:
        with expect_refusal(ValueError, message, manual, other):
            acquire_all([(first, BYSTANDER, 1), (second, BYSTANDER, 1)])
        assert 0 == real.stats().allowed


@pytest.mark.parametrize(
    "pair", list(combinations(ALGORITHMS, 2)), ids=lambda pair: " and ".join(map(str, pair))
)
@pytest.mark.parametrize("exhausted", [0, 1])
def test_k20_a_refusal_by_one_limit_charges_none(pair: tuple[Limit, Limit], exhausted: int) -> None:
    clock = ManualClock(1_000.0)
    single = [Limiter(limit, clock=clock, name=f"single[{i}]") for i, limit in enumerate(pair)]
    assert single[exhausted].acquire("a", 5)
    before = [limiter.peek("a", 0) for limiter in single]
    refused = acquire_all([(limiter, "a", 1) for limiter in single])
    assert (False, f"single[{exhausted}]") == (refused.allowed, refused.name)
    assert before == [limiter.peek("a", 0) for limiter in single]


@by_algorithm
def test_k20_several_limits_of_one_limiter_likewise(limit: Limit) -> None:
    limiter = limiter_of([limit, "sliding-window 3/min", limit])
    assert limiter.acquire("a", 3)
    before = limiter.peek("a", 0)
    for _ in range(10):
        refused = limiter.acquire("a")
        assert (False, "api[1]") == (refused.allowed, refused.name)
    assert before == limiter.peek("a", 0)
    limiter.update([limit, "sliding-window 5/min", limit])
    assert (True, 0) == (limiter.acquire("a", 2).allowed, limiter.peek("a", 0).remaining)
