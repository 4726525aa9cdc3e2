"""What came of a replay, in numbers: totals, offenders, and how the requests lie in time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import compress

from .drive import Replay
from .times import SECOND
from .trace import Trace

COLUMNS = 48
FLIPPED = bytes([1, 0]).ljust(256, b"\0")  # a table for bytes.translate
MINUTE, HOUR, DAY = 60 * SECOND, 3_600 * SECOND, 86_400 * SECOND
STEPS = (
    *(digit * 10**power for power in range(9) for digit in (1, 2, 5)),
    *(count * SECOND for count in (1, 2, 5, 10, 15, 30)),
    *(count * MINUTE for count in (1, 2, 5, 10, 15, 30)),
    *(count * HOUR for count in (1, 2, 3, 6, 12)),
    *(count * DAY for count in (1, 2, 7, 14, 28, 91, 182, 365, 730, 1_825, 3_650)),
)


@dataclass(frozen=True)
class Scale:
    """Equal steps of time that hold a trace in at most `COLUMNS` of them."""

    start_ns: int
    step_ns: int
    columns: int

    def count(self, times: Iterable[int]) -> list[int]:
        counts = Counter((time - self.start_ns) // self.step_ns for time in times)
        return [counts[column] for column in range(self.columns)]


def scale_of(trace: Trace) -> Scale:
    first, last = (trace.times[0], trace.times[-1]) if len(trace) else (0, 0)
    for step in STEPS:
        start = first - first % step
        columns = (last - start) // step + 1
        if columns <= COLUMNS:
            break
    return Scale(start, step, columns)


@dataclass(frozen=True)
class Figures:
    """One limit's totals; `denied_of` counts by key (an index into the trace's names)."""

    limit: str
    allowed: int
    denied: int
    too_large: int
    allowed_cost: int
    denied_of: Counter[int]
    denied_over_time: list[int]
    decisions_per_second: float
    full_events: int


def figures_of(replay: Replay, scale: Scale) -> Figures:
    trace = replay.trace
    refused = replay.allowed.translate(FLIPPED)
    allowed = sum(replay.allowed)
    return Figures(
        limit=replay.limit,
        allowed=allowed,
        denied=len(trace) - allowed,
        too_large=replay.too_large,
        allowed_cost=allowed if trace.costs is None else sum(compress(trace.costs, replay.allowed)),
        denied_of=Counter(compress(trace.keys, refused)),
        denied_over_time=scale.count(compress(trace.times, refused)),
        decisions_per_second=len(trace) / replay.seconds if replay.seconds else 0.0,
        full_events=replay.full_events,
    )


def top_offenders(limits: Iterable[Figures], most: int) -> list[int]:
    """The keys most denied, over all limits together; at a tie the one seen first in the log."""
    denied = sum((figures.denied_of for figures in limits), Counter[int]())
    return sorted(denied, key=lambda key: (-denied[key], key))[:most]
