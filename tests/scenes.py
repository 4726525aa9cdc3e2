"""What scenes that are played under every order of turns have in common: their limits, and who charges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kernel_probe import Table
from scale import by_mode

from fastlimit import FixedWindow, LeakyBucket, SlidingLog, SlidingWindow, TokenBucket
from fastlimit.limits import Limit

MORE = by_mode(0, 0, full=1)
"""Preemptions on top of the usual; each makes a scene about twenty times as long."""

LIMITS: list[Limit] = [
    TokenBucket("2/s"),
    LeakyBucket("2/s"),
    FixedWindow("2/s"),
    FixedWindow("2/s", anchor="first"),
    SlidingWindow("2/s"),
    SlidingLog("2/s"),
]
each_limit = pytest.mark.parametrize("limit", LIMITS, ids=str)
each_claimed = pytest.mark.parametrize(
    "limit", [TokenBucket("1/s"), FixedWindow("1/s", anchor="first")], ids=str
)

Make = Callable[[Table, str], Any]


def charge(table: Table, key: str) -> Any:
    return table.probe.charge((table.limiter, key, 1))


def load_then_store(table: Table, key: str) -> Any:
    return table.probe.load_then_store(table.limiter, key)


def hasty_refusal(table: Table, key: str) -> Any:
    return table.probe.hasty_refusal(table.limiter, key)


def claim_without(precaution: str) -> Make:
    return lambda table, key: table.probe.careless_claim(precaution, table.limiter, key)
