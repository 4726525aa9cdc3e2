"""What a type checker must make of the public surface; `tests/test_typing.py` has mypy check this file."""

from __future__ import annotations

from typing import Literal, assert_type

from fastlimit import (
    Bucket,
    CostExceedsLimit,
    Decision,
    FastlimitError,
    FixedWindow,
    InvalidLimit,
    LeakyBucket,
    Limiter,
    Rate,
    SlidingLog,
    SlidingWindow,
    Stats,
    TokenBucket,
    acquire_all,
)
from fastlimit.limiter import Key
from fastlimit.testing import ManualClock


class NamedLimiter(Limiter):
    """A limiter may be subclassed."""


def limiters(clock: ManualClock) -> list[Limiter]:
    return [
        Limiter("100/s burst 200"),
        Limiter(TokenBucket("100/s", burst=200), name="api", max_keys=1_000, when_full="deny", top=False),
        Limiter(["10/s", FixedWindow("1000/h", anchor="first")], when_full="allow"),
        Limiter((LeakyBucket("5/s", capacity=10), SlidingWindow("100/min")), clock=clock),
        NamedLimiter("1/s", clock=None, when_full="share"),
    ]


def decisions(limiter: Limiter, key: Key) -> None:
    assert_type(limiter.allow(key), bool)
    assert_type(limiter.acquire(key), Decision)
    assert_type(limiter.acquire(key, cost=3), Decision)
    assert_type(limiter.peek(key, 0), Decision)
    assert_type(limiter.refund(key, cost=3), Decision)
    assert_type(limiter.debit(key=key, cost=7), Decision)
    limiter.reset(key)
    assert_type(limiter.allow_many(["a", b"b", ("c", b"d")]), bytes)
    assert_type(limiter.allow_many((name for name in "abc"), costs=range(3)), bytes)
    assert_type(acquire_all([(limiter, "a", 1), (limiter, ("b", b"c"), 2)]), Decision)


def fields(decision: Decision) -> None:
    assert_type(decision.allowed, bool)
    assert_type(decision.limit, int)
    assert_type(decision.remaining, int)
    assert_type(decision.retry_after, float)
    assert_type(decision.reset_after, float)
    assert_type(decision.delay, float)
    assert_type(decision.retry_after_ns, int)
    assert_type(decision.reset_after_ns, int)
    assert_type(decision.delay_ns, int)
    assert_type(decision.name, str)
    assert_type(bool(decision), bool)
    assert_type({decision: 1}, dict[Decision, int])


def handles(limiter: Limiter) -> None:
    bucket = limiter.bucket(("user", b"42"))
    assert_type(bucket, Bucket)
    assert_type(bucket.limiter, Limiter)
    assert_type(bucket.key, str | bytes | tuple[str | bytes, ...])
    assert_type(bucket.allow(), bool)
    assert_type(bucket.acquire(cost=2), Decision)
    assert_type(bucket.peek(), Decision)
    assert_type(bucket.refund(2), Decision)
    assert_type(bucket.debit(2), Decision)
    bucket.reset()


def figures(limiter: Limiter) -> None:
    assert_type(limiter.stats(), Stats)
    assert_type(limiter.stats().name, str | None)
    assert_type(limiter.stats().denied, int)
    assert_type(limiter.top(3), list[tuple[str | bytes | tuple[str | bytes, ...], int]])
    assert_type(
        limiter.limits, tuple[TokenBucket | LeakyBucket | FixedWindow | SlidingWindow | SlidingLog, ...]
    )
    assert_type(limiter.name, str | None)
    assert_type(limiter.max_keys, int)
    limiter.update(["20/s", "2000/h"])


def limits(rate: Rate) -> None:
    assert_type(TokenBucket(rate).burst, int)
    assert_type(LeakyBucket("1/s").capacity, int)
    assert_type(FixedWindow(rate=rate).anchor, Literal["epoch", "first"])
    assert_type(SlidingWindow("1/s").rate, Rate)
    assert_type(rate.count, int)


def clocks() -> None:
    clock = ManualClock(1_000)
    clock.advance(0.25)
    clock.advance_ns(1)
    clock.set(12)
    clock.set_ns(12)
    assert_type(clock.now_ns, int)


def errors(limiter: Limiter) -> str:
    try:
        limiter.acquire("a", cost=10**6)
    except CostExceedsLimit as error:
        value_error: ValueError = error
        return str(value_error)
    except InvalidLimit as error:
        own: FastlimitError = error
        return str(own)
    return ""
