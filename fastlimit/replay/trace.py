"""The requests of a log in memory, in order of time: 12 bytes for each, 20 where they have costs."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field


@dataclass(slots=True)
class Trace:
    """Parallel columns, a row for each request: `times` in ns since 1970, `keys` as indexes into `names`.

    `costs` is None where every request costs 1.
    """

    times: array[int] = field(default_factory=lambda: array("q"))
    keys: array[int] = field(default_factory=lambda: array("I"))
    costs: array[int] | None = None
    names: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.times)

    def rows(self, order: list[int]) -> Trace:
        """The rows at these positions, in this order."""
        costs = self.costs
        return Trace(
            times=array("q", map(self.times.__getitem__, order)),
            keys=array("I", map(self.keys.__getitem__, order)),
            costs=None if costs is None else array("q", map(costs.__getitem__, order)),
            names=self.names,
        )

    def in_order(self) -> Trace:
        """The same rows by time, those of one instant in the order of the log."""
        return self.rows(sorted(range(len(self)), key=self.times.__getitem__))

    def costing_at_most(self, cost: int) -> Trace:
        costs = self.costs
        if costs is None or max(costs, default=0) <= cost:
            return self
        return self.rows([row for row, price in enumerate(costs) if price <= cost])

    def total_cost(self) -> int:
        return len(self) if self.costs is None else sum(self.costs)


class TraceBuilder:
    """Takes requests in the order of the log, and counts how many of them step back in time."""

    def __init__(self) -> None:
        self.trace = Trace()
        self.out_of_order = 0
        self._indexes: dict[str, int] = {}

    def add(self, time_ns: int, key: str, cost: int) -> None:
        trace = self.trace
        if cost != 1 and trace.costs is None:
            trace.costs = array("q", [1]) * len(trace)
        if trace.costs is not None:
            trace.costs.append(cost)
        index = self._indexes.setdefault(key, len(trace.names))
        if index == len(trace.names):
            trace.names.append(key)
        self.out_of_order += bool(trace.times) and time_ns < trace.times[-1]
        trace.times.append(time_ns)
        trace.keys.append(index)

    def finish(self) -> Trace:
        return self.trace.in_order() if self.out_of_order else self.trace
