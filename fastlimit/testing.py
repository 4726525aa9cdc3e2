"""For the tests of those who use fastlimit: a clock to hand to `Limiter(..., clock=)`."""

from __future__ import annotations

from ._core import ManualClock

__all__ = ["ManualClock"]
