"""Uses that a type checker must refuse: mypy complains of an ignore that hides no error."""

from __future__ import annotations

from fastlimit import Bucket, Decision, FixedWindow, Limiter, Rate, TokenBucket, acquire_all
from fastlimit.testing import ManualClock


def limiters() -> None:
    Limiter()  # type: ignore[call-arg]
    Limiter(100)  # type: ignore[arg-type]
    Limiter("1/s", "api")  # type: ignore[call-arg]
    Limiter("1/s", max_keys=1e6)  # type: ignore[arg-type]
    Limiter("1/s", when_full="evict")  # type: ignore[arg-type]
    Limiter("1/s", clock=0.0)  # type: ignore[arg-type]
    FixedWindow("1/s", anchor="last")  # type: ignore[arg-type]


def calls(limiter: Limiter, bucket: Bucket) -> None:
    limiter.allow(key="a")  # type: ignore[call-arg]
    limiter.allow(1)  # type: ignore[arg-type]
    limiter.acquire("a", cost=0.5)  # type: ignore[arg-type]
    limiter.acquire(("a", 1))  # type: ignore[arg-type]
    limiter.allow_many([1])  # type: ignore[list-item]
    bool(limiter.reset("a"))  # type: ignore[func-returns-value]
    bucket.allow("a")  # type: ignore[call-arg]
    acquire_all([(limiter, "a")])  # type: ignore[list-item]


def immutables(limiter: Limiter, decision: Decision, limit: TokenBucket, rate: Rate) -> None:
    limiter.name = "other"  # type: ignore[misc]
    decision.allowed = True  # type: ignore[misc]
    limit.burst = 2  # type: ignore[misc]
    rate.count = 2  # type: ignore[misc]


class OwnClock(ManualClock):  # type: ignore[misc]
    """Clocks, handles and Decisions are final."""
