"""The figures to reach, and how a row is judged by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .harness import Summary


@dataclass(frozen=True)
class Target:
    """A bound on a row's ratio, or on its value where `on` says so.

    `judged` is the figure held against the bound: the median, or the lower quartile for figures that the
    machine's own interruptions dominate, so that only a difference beyond their spread counts as missed.
    """

    sense: Literal["<=", ">="]
    bound: float
    on: Literal["ratio", "value"] = "ratio"
    judged: Literal["median", "low"] = "median"

    def reached(self, figure: Summary) -> bool:
        got = figure.median if self.judged == "median" else figure.low
        return got <= self.bound if self.sense == "<=" else got >= self.bound


def at_most(bound: float, on: Literal["ratio", "value"] = "ratio") -> Target:
    return Target("<=", bound, on)


def at_least(bound: float) -> Target:
    return Target(">=", bound)


ALLOW_TO_NO_OP = at_most(1.8)
ALLOW_TO_DICT_GET = at_most(1.4)
ACQUIRE_TO_ALLOW = at_most(1.6)
TWO_LIMITS_TO_ALLOW = at_most(1.6)
THREE_LIMITERS_TO_ALLOW = at_most(4)
BATCH_HOT_NS = at_most(12, "value")
HANDLE_NS = at_most(12, "value")

RANDOM_ALLOW_TO_DICT_GET = at_most(0.75)
RANDOM_BATCH_TO_DICT_GET = at_most(0.22)
STALL_TO_CONTROL = Target("<=", 1.0, judged="low")

LOG_TO_NO_OP = at_most(3)
LARGE_LOG_TO_SMALL = at_most(1.5)
BYTES_PER_ENTRY = at_most(24, "value")

WAITER_US = at_most(20, "value")
WAKE_UPS = at_most(1.1, "value")  # a thundering herd would make it thousands

BYTES_PER_KEY = at_most(64, "value")
FLOOD_GROWTH_MB = at_most(0.25, "value")  # a few pages of Python's own; the flood brings millions of keys
SMALL_LIMITER_MB = at_most(1, "value")

IMPORT_MS = at_most(25, "value")
FOREIGN_MODULES = at_most(0, "value")

TWO_THREADS_TO_ONE = at_least(1.8)

PEERS_TO_ALLOW = {
    "floodgate-rs": at_least(3),
    "rust-py-rate-limit": at_least(3),
    "limits": at_least(70),
    "throttled-py": at_least(90),
}
