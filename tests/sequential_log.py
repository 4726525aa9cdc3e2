"""The sliding log one operation at a time, for `linearizability`; and which algorithm takes which.

A log is looser than the other algorithms in two ways. Both are allowed for here, as closely as can be said.

    the instant of a unit   is a reading of the clock from between its charge's call and its effect, but not
                            a settled one: a call in flight may bring it forward. So a bucket holds the
                            earliest and the latest that each may be. A charge may pass if it fits beside the
                            earliest; it may be refused if it does not fit beside the latest.
    what is left            is counted in the log after the decision, amid what others do to it meanwhile; so
                            it is not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from linearizability import Event
from sequential import Bucket, Sequential, World

from fastlimit.limits import Algorithm, Limit


class Log(NamedTuple):
    earliest: tuple[int, ...] = ()
    latest: tuple[int, ...] = ()
    newest: int = 0


class SequentialLog(Sequential):
    def __init__(self, limits: Sequence[Limit], start: World, **options: Any) -> None:
        super().__init__(limits, start, **options)
        self.nothing = Log()
        self.window = self.tables[0].parameters.window

    def inside(self, instants: tuple[int, ...], now: int) -> tuple[int, ...]:
        return tuple(instant for instant in instants if instant + self.window > now)

    def _is_fresh(self, bucket: Bucket, clock: int) -> bool:
        return not self.inside(bucket.state.earliest, self.tables[bucket.version].units(clock))

    def converted(self, bucket: Bucket | None, version: int, clock: int) -> Any:
        """An update leaves a log as it is."""
        return self.nothing if bucket is None else bucket.state

    def results(
        self, event: Event, bucket: Bucket | None, version: int, clock: int, latest: int
    ) -> Iterator[Bucket | None]:
        table, log = self.tables[version], self.converted(bucket, version, clock)
        now, end, cost = table.units(clock), max(table.units(latest), log.newest), event.cost
        capacity = table.parameters.capacity
        fewest, most = self.inside(log.earliest, max(now, log.newest)), self.inside(log.latest, now)
        if event.kind == "reset":
            yield Bucket(version, self.nothing)
        elif event.kind == "refund":
            found = min(cost, len(fewest))  # at least; what was brought forward later stays
            yield Bucket(version, Log(fewest[:-cost], most[: len(most) - found], log.newest + 1))
        elif event.kind == "debit":
            room = 2 * capacity
            less, more = min(cost, max(room - len(most), 0)), min(cost, max(room - len(fewest), 0))
            yield Bucket(version, self.logged(log, now, less, end, more))
        else:
            if (event.allowed or event.optional) and len(fewest) + cost <= capacity:
                yield Bucket(version, self.logged(log, now, cost, end, cost))
            if (not event.allowed or event.optional) and len(most) + cost > capacity:
                yield None
            if event.kind == "look":
                yield None

    def logged(self, log: Log, now: int, less: int, end: int, more: int) -> Log:
        return Log(tuple(sorted(log.earliest + (now,) * less)), log.latest + (end,) * more, end)


def sequential(limits: Sequence[Limit], start: World, **options: Any) -> Sequential:
    """The engine one operation at a time, under a limit of any algorithm."""
    logs = limits[0].parameters().algorithm == Algorithm.SLIDING_LOG
    return (SequentialLog if logs else Sequential)(limits, start, **options)
