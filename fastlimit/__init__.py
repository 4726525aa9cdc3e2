"""Rate limiting for Python gateways: decisions in tens of nanoseconds, from compiled, lock-free buckets.

    from fastlimit import Limiter

    limiter = Limiter("100/s burst 200")
    if limiter.allow("user:42"):
        ...

Most callers should use `Limiter` with the text form and `allow`; `acquire` gives a Decision with the
numbers for headers.
"""

from __future__ import annotations

from ._core import Bucket, Decision, acquire_all
from .errors import CostExceedsLimit, FastlimitError, InvalidLimit
from .limiter import Limiter, Stats
from .limits import FixedWindow, LeakyBucket, SlidingLog, SlidingWindow, TokenBucket
from .rates import Rate

__all__ = [
    "Bucket",
    "CostExceedsLimit",
    "Decision",
    "FastlimitError",
    "FixedWindow",
    "InvalidLimit",
    "LeakyBucket",
    "Limiter",
    "Rate",
    "SlidingLog",
    "SlidingWindow",
    "Stats",
    "TokenBucket",
    "acquire_all",
]
