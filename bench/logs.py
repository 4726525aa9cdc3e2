"""The sliding log: what exactness costs in time and memory.

On the system's clock a log of 100 cannot be asked as fast as this and pass, so its allowed calls are made on
a manual clock that each call moves on until the oldest unit of a full log leaves; what moving it costs is
taken off, round by round.
"""

from __future__ import annotations

from typing import Any

from fastlimit import Limiter, SlidingLog
from fastlimit.testing import ManualClock

from . import compiled, memory, targets
from .cases import NO_OP
from .harness import KEY, Contender, Samples, Unavailable, measure
from .rows import Row, missing_rows, timed_row

SMALL, LARGE = 100, 65_536
STEP_NS = 15_260  # one unit's share of the window in both
WINDOWS = {SMALL: SlidingLog("100/1526us"), LARGE: SlidingLog("65536/s")}
CLOCK = "manual clock moved on"
ON_SYSTEM_CLOCK = f"SlidingLog of {LARGE:,}/ms allow"


def moved(name: str, limiter: Any, clock: ManualClock) -> Contender:
    names = {"advance": clock.advance_ns, "step": STEP_NS, "limiter": limiter, "key": KEY}
    return Contender(name, "advance(step) or limiter.allow(key)", names, allowed=True)


def full(count: int) -> tuple[Limiter, ManualClock]:
    """A limiter whose log is full, on its own clock."""
    clock = ManualClock(1_000.0)
    limiter = Limiter(WINDOWS[count], clock=clock)
    for _ in range(count):
        clock.advance_ns(STEP_NS)
        limiter.allow(KEY)
    return limiter, clock


def name_of(count: int, word: str) -> str:
    return f"SlidingLog of {count:,} allow, {word}"


def contenders(floor: Any) -> list[Contender]:
    found = [
        Contender(NO_OP, "floor.allow(key)", {"floor": floor, "key": KEY}),
        Contender(CLOCK, "advance(step)", {"advance": ManualClock().advance_ns, "step": STEP_NS}),
    ]
    for count in WINDOWS:
        exhausted = Limiter(SlidingLog(f"{count}/day"))
        exhausted.acquire(KEY, count)
        names = {"limiter": exhausted, "key": KEY}
        found += [
            moved(name_of(count, "allowed"), *full(count)),
            Contender(name_of(count, "denied"), "limiter.allow(key)", names, allowed=False),
        ]
    hot = {"limiter": Limiter(SlidingLog(f"{LARGE}/ms")), "key": KEY}
    return [*found, Contender(ON_SYSTEM_CLOCK, "limiter.allow(key)", hot, allowed=True)]


def without_clock(samples: Samples) -> None:
    """Take off what moving the clock on costs."""
    for count in WINDOWS:
        name = name_of(count, "allowed")
        pairs = zip(samples.ns[name], samples.ns[CLOCK], strict=True)
        samples.ns[name] = [whole - clock for whole, clock in pairs]


def run(rounds: int) -> tuple[list[Row], dict[str, list[float]]]:
    """Measures all of it in the calling process, but the memory, which takes one of its own."""
    names = [name_of(count, word) for count in WINDOWS for word in ("allowed", "denied")]
    try:
        floor = compiled.load("floor").Floor()
    except Unavailable as error:
        return missing_rows([(name, targets.LOG_TO_NO_OP) for name in names], error), {}
    samples = measure(contenders(floor), rounds)
    without_clock(samples)
    rows = [timed_row(samples, name, name, NO_OP, targets.LOG_TO_NO_OP) for name in names]
    large = name_of(LARGE, "allowed")
    rows += [
        timed_row(samples, large, large, name_of(SMALL, "allowed"), targets.LARGE_LOG_TO_SMALL),
        timed_row(samples, ON_SYSTEM_CLOCK, ON_SYSTEM_CLOCK, NO_OP, targets.LOG_TO_NO_OP),
        memory.row("SlidingLog, RSS an entry", "B", targets.BYTES_PER_ENTRY, 3, "log_entry", 1_000),
    ]
    return rows, samples.ns
