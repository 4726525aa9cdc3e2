"""For tests of bad input: limiters, and a check that an error says what it must and charges nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from fastlimit import FixedWindow, LeakyBucket, Limiter, SlidingLog, SlidingWindow, TokenBucket
from fastlimit.limits import Limit
from fastlimit.testing import ManualClock

BYSTANDER = "bystander"  # a good key next to a bad one

ALGORITHMS: list[Limit] = [
    TokenBucket("5/min"),
    LeakyBucket("5/min"),
    FixedWindow("5/min"),
    FixedWindow("5/min", anchor="first"),
    SlidingWindow("5/min"),
    SlidingLog("5/min"),
]

by_algorithm = pytest.mark.parametrize("limit", ALGORITHMS, ids=str)


def limiter_of(limit: str | Limit | Sequence[str | Limit] = "5/min", **options: Any) -> Limiter:
    return Limiter(limit, clock=ManualClock(1_000.0), name="api", **options)


def picture(limiter: Limiter) -> tuple[object, ...]:
    """All that a call could have changed."""
    return limiter.stats(), limiter.top(), [limiter.peek(key) for key in (BYSTANDER, "other", "", "api")]


@contextmanager
def expect_refusal(error: type[Exception], message: str, *limiters: Limiter) -> Iterator[None]:
    """The block raises exactly this, and leaves the limiters as they were."""
    before = [picture(limiter) for limiter in limiters]
    with pytest.raises(error, match=f"^{re.escape(message)}$") as caught:
        yield
    assert error is caught.type
    after = [picture(limiter) for limiter in limiters]
    assert before == after, f"charged before the error: {before} became {after}"
