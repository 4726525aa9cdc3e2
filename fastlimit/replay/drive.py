"""A trace through one limiter: each decision by the engine, at the time of the log, as fast as it goes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from time import perf_counter

from fastlimit import CostExceedsLimit, Decision, Limiter
from fastlimit.testing import ManualClock

from .trace import Trace

CHUNK = 65_536
PASSES = 5
ENOUGH_SECONDS = 0.2
ROOM = 2  # a table as full as `max_keys` allows has no slot for one key in some thousands
Call = tuple[int, Callable[..., bool | bytes | Decision], tuple[object, ...]]


@dataclass(frozen=True)
class Replay:
    """What one limit made of a log."""

    limit: str
    trace: Trace
    """The requests that were decided: all but those too large."""
    allowed: bytes
    """0 or 1 for each of them."""
    too_large: int
    """Requests whose cost the limit can never grant."""
    seconds: float
    """How long the decisions took, clock included; the median of a few passes."""
    full_events: int
    """How often the limiter's table had no room for a key."""


def replay(trace: Trace, limit: str) -> Replay:
    """Puts the trace to a fresh limiter; a few times where that is quick, for a steadier figure.

    Raises InvalidLimit for a limit that cannot be read.
    """
    fitting = trace.costing_at_most(largest_grant(trace, limit))
    enough = perf_counter() + ENOUGH_SECONDS
    passes = [one_pass(fitting, limit)]
    while len(passes) < PASSES and perf_counter() < enough:
        passes.append(one_pass(fitting, limit))
    allowed, _, full_events = passes[0]
    seconds = median(seconds for _, seconds, _ in passes)
    return Replay(limit, fitting, allowed, len(trace) - len(fitting), seconds, full_events)


def largest_grant(trace: Trace, limit: str) -> int:
    """The largest of the trace's costs that the limit can grant; 0 if there is none."""
    probe = Limiter(limit, max_keys=1)

    def exceeds(cost: int) -> bool:
        try:
            probe.peek("", cost)
        except CostExceedsLimit:
            return True
        return False

    costs = [0, *sorted(set(trace.costs or [1]))]
    return costs[bisect_left(costs, True, key=exceeds) - 1]


def limiter_for(trace: Trace, limit: str) -> tuple[Limiter, ManualClock]:
    """A limiter with a slot for every key of the trace, and its clock at the trace's beginning."""
    clock = ManualClock()
    if trace.times:
        clock.set_ns(trace.times[0])
    return Limiter(limit, max_keys=max(len(trace.names), 1) * ROOM, clock=clock), clock


def one_pass(trace: Trace, limit: str) -> tuple[bytes, float, int]:
    """The answers, the seconds they took (with turning the clock, without unpacking), and full events."""
    limiter, clock = limiter_for(trace, limit)
    set_ns = clock.set_ns
    answers: list[bytes] = []
    seconds = 0.0
    for start in range(0, len(trace), CHUNK):
        calls = list(calls_for(limiter, trace, start, min(start + CHUNK, len(trace))))
        given: list[bool | bytes | Decision] = []
        take = given.append
        began = perf_counter()
        for time_ns, decide, arguments in calls:
            set_ns(time_ns)
            take(decide(*arguments))
        seconds += perf_counter() - began
        answers.extend(one if isinstance(one, bytes) else bytes([bool(one)]) for one in given)
    return b"".join(answers), seconds, limiter.stats().full_events


def calls_for(limiter: Limiter, trace: Trace, start: int, stop: int) -> Iterator[Call]:
    """Rows `start` to `stop` as the fastest calls that there are: one for all the rows of one instant."""
    times = trace.times[start:stop].tolist()
    keys = [trace.names[key] for key in trace.keys[start:stop]]
    costs = None if trace.costs is None else trace.costs[start:stop].tolist()
    edges = [row for row in range(1, len(times)) if times[row] != times[row - 1]]
    for first, end in pairwise([0, *edges, len(times)]):
        if end - first > 1:
            yield times[first], limiter.allow_many, (keys[first:end], costs and costs[first:end])
        elif costs is None:
            yield times[first], limiter.allow, (keys[first],)
        else:
            yield times[first], limiter.acquire, (keys[first], costs[first])
