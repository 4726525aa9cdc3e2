"""The slow model of the engine: a dict, a lock and `algorithms/*.py`. Test oracle, and engine of simulations.

It says what each call of a `Limiter` means, field by field, and nothing about how it is done: no bound on
keys or integers, no check of arguments but the one that decides (`CostExceedsLimit`). What it knows and the
algorithms do not: a limit's own time, several limits as one, how instants become the fields of a Decision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from fractions import Fraction
from threading import Lock
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from .algorithms import first_window, fixed_window, leaky_bucket, sliding_log, sliding_window, token_bucket
from .algorithms.outcome import Report
from .errors import CostExceedsLimit
from .limits import Algorithm, Limit, limits_from

SECOND = 10**9

# A limit's own time begins before its limiter, for clocks that step back, and ends 22 years after it was
# built, or later in coarser units: an instant twice a whole bucket after its end still fits 60 bits.
PAST_NS = 2**57
LAST_UNIT = 3 * 2**58 - 1

# Where a Decision's durations end; only a clock that steps back by centuries gets there.
LONGEST_NS = 2**63 - 1

ALGORITHMS: dict[Algorithm, ModuleType] = {
    Algorithm.TOKEN_BUCKET: token_bucket,
    Algorithm.LEAKY_BUCKET: leaky_bucket,
    Algorithm.FIXED_WINDOW: fixed_window,
    Algorithm.FIRST_WINDOW: first_window,
    Algorithm.SLIDING_WINDOW: sliding_window,
    Algorithm.SLIDING_LOG: sliding_log,
}

State = Any  # of the limit's algorithm
Given = str | Limit | Sequence[str | Limit]

_lock = Lock()  # one for all limiters, so that a call over several of them is one step too


class Clock(Protocol):
    @property
    def now_ns(self) -> int:
        """Nanoseconds since 1970-01-01 UTC."""


class ReferenceDecision(NamedTuple):
    """The fields of a `Decision`; durations in nanoseconds, and in seconds as properties."""

    allowed: bool
    limit: int
    remaining: int
    retry_after_ns: int
    reset_after_ns: int
    delay_ns: int
    name: str

    def __bool__(self) -> bool:
        return self.allowed

    @property
    def retry_after(self) -> float:
        return seconds(self.retry_after_ns)

    @property
    def reset_after(self) -> float:
        return seconds(self.reset_after_ns)

    @property
    def delay(self) -> float:
        return seconds(self.delay_ns)


def seconds(ns: int) -> float:
    """The smallest float that is no less than `ns` nanoseconds."""
    nearest = ns / SECOND
    return nearest if Fraction(nearest) >= Fraction(ns, SECOND) else math.nextafter(nearest, math.inf)


class Table:
    """One limit: the state of each key, in the limit's own time."""

    def __init__(self, limit: Limit, name: str | None) -> None:
        self.given_name = name
        self.base_ns: int | None = None
        self.states: dict[Hashable, State] = {}
        self.use(limit)

    def use(self, limit: Limit) -> None:
        self.parameters = limit.parameters()
        self.name = str(limit) if self.given_name is None else self.given_name

    @property
    def algorithm(self) -> ModuleType:
        return ALGORITHMS[self.parameters.algorithm]

    def base(self, now_ns: int) -> int:
        """What units count from: some years before the first use."""
        if self.base_ns is None:
            self.base_ns = now_ns - PAST_NS
        return self.base_ns

    def units(self, now_ns: int) -> int:
        """A clock reading in the limit's own time."""
        if self.parameters.epoch:
            return now_ns + self.parameters.offset
        elapsed = max(now_ns - self.base(now_ns), 0)
        return min(elapsed * (self.parameters.multiplier or 2**64) >> 64, LAST_UNIT)

    def wait_ns(self, instant: int, now_ns: int) -> int:
        """Nanoseconds until the clock first reads `instant` or later, which is in the limit's own time."""
        if instant <= self.units(now_ns):
            return 0
        if self.parameters.epoch:
            wanted_ns = instant - self.parameters.offset
        else:
            wanted_ns = self.base(now_ns) - (-instant * 2**64 // (self.parameters.multiplier or 2**64))
        return min(wanted_ns - now_ns, LONGEST_NS)

    def state(self, key: Hashable, now_ns: int) -> State:
        state = self.states.get(key, self.algorithm.fresh())
        if self.parameters.epoch and key in self.states:
            state = self.states[key] = self.algorithm.settle(state, self.units(now_ns), self.parameters)
        return state

    def step(self, key: Hashable, cost: int, now_ns: int) -> tuple[bool, State, State]:
        """Whether `cost` passes, and the states without and with it."""
        before = self.state(key, now_ns)
        if cost == 0:
            return True, before, before
        allowed, after = self.algorithm.step(before, self.units(now_ns), cost, self.parameters)
        return allowed, before, after

    def decision(
        self, before: State, after: State, cost: int, allowed: bool, now_ns: int
    ) -> ReferenceDecision:
        now, limit = self.units(now_ns), self.parameters
        report: Report = self.algorithm.report(before, after, now, cost, allowed, limit)
        return ReferenceDecision(
            allowed=allowed,
            limit=limit.capacity,
            remaining=report.remaining,
            retry_after_ns=0 if allowed else self.wait_ns(report.allowed_at, now_ns),
            reset_after_ns=self.wait_ns(report.fresh_at, now_ns),
            delay_ns=self.wait_ns(report.starts_at, now_ns),
            name=self.name,
        )

    def check(self, cost: int) -> None:
        if cost > self.parameters.capacity:
            raise CostExceedsLimit(f"cost {cost} is above what {self.name} can ever grant")

    def debit(self, key: Hashable, cost: int, now_ns: int) -> ReferenceDecision:
        state = self.state(key, now_ns)
        _, state = self.algorithm.debit(state, self.units(now_ns), cost, self.parameters)
        self.states[key] = state
        return self.decision(state, state, 0, True, now_ns)._replace(delay_ns=0)

    def refund(self, key: Hashable, cost: int, now_ns: int) -> ReferenceDecision:
        state = self.algorithm.refund(self.state(key, now_ns), self.units(now_ns), cost, self.parameters)
        self.states[key] = state
        return self.decision(state, state, 0, True, now_ns)._replace(delay_ns=0)

    def convert(self, limit: Limit, now_ns: int) -> None:
        """Change the limit; what each key owes stays."""
        old, was = self.parameters, self.units(now_ns)
        self.use(limit)
        for key, state in self.states.items():
            self.states[key] = self.algorithm.convert(state, was, self.units(now_ns), old, self.parameters)


class Charge(NamedTuple):
    table: Table
    key: Hashable
    cost: int


def combine(decisions: Sequence[ReferenceDecision]) -> ReferenceDecision:
    """Several limits as one: the binding one makes a refused call wait longest, or has the least left."""
    allowed = all(decisions)
    if allowed:
        binding = min(decisions, key=lambda decision: decision.remaining)
    else:
        binding = max(decisions, key=lambda decision: decision.retry_after_ns)
    return ReferenceDecision(
        allowed=allowed,
        limit=binding.limit,
        remaining=min(decision.remaining for decision in decisions),
        retry_after_ns=max(decision.retry_after_ns for decision in decisions),
        reset_after_ns=max(decision.reset_after_ns for decision in decisions),
        delay_ns=max(decision.delay_ns for decision in decisions) if allowed else 0,
        name=binding.name,
    )


def decide(charges: Sequence[Charge], now_ns: int, *, charging: bool = True) -> ReferenceDecision:
    """All or nothing; nothing at all unless `charging`."""
    for table, _, cost in charges:
        table.check(cost)
    steps = [table.step(key, cost, now_ns) for table, key, cost in charges]
    charging = charging and all(allowed for allowed, _, _ in steps)
    decisions = []
    for (table, key, cost), (allowed, before, after) in zip(charges, steps, strict=True):
        if charging and cost:
            table.states[key] = after
        decisions.append(table.decision(before, after if charging else before, cost, allowed, now_ns))
    return combine(decisions)


class ReferenceLimiter:
    """What `fastlimit.Limiter` means; `clock` is monotonic and wall clock in one."""

    def __init__(self, limit: Given, *, name: str | None = None, clock: Clock) -> None:
        self.clock = clock
        limits = limits_from(limit)
        several = name is not None and len(limits) > 1
        names = [f"{name}[{i}]" if several else name for i in range(len(limits))]
        self.tables = [Table(*each) for each in zip(limits, names, strict=True)]

    def charges(self, key: Hashable, cost: int) -> list[Charge]:
        return [Charge(table, key, cost) for table in self.tables]

    def allow(self, key: Hashable) -> bool:
        return self.acquire(key).allowed

    def acquire(self, key: Hashable, cost: int = 1) -> ReferenceDecision:
        with _lock:
            return decide(self.charges(key, cost), self.clock.now_ns)

    def peek(self, key: Hashable, cost: int = 1) -> ReferenceDecision:
        with _lock:
            return decide(self.charges(key, cost), self.clock.now_ns, charging=False)

    def debit(self, key: Hashable, cost: int = 1) -> ReferenceDecision:
        return self._change(Table.debit, key, cost)

    def refund(self, key: Hashable, cost: int = 1) -> ReferenceDecision:
        return self._change(Table.refund, key, cost)

    def _change(
        self, change: Callable[[Table, Hashable, int, int], ReferenceDecision], key: Hashable, cost: int
    ) -> ReferenceDecision:
        if cost == 0:
            return self.peek(key, 0)
        with _lock:
            now_ns = self.clock.now_ns
            return combine([change(table, key, cost, now_ns) for table in self.tables])

    def reset(self, key: Hashable) -> None:
        with _lock:
            for table in self.tables:
                table.base(self.clock.now_ns)
                table.states.pop(key, None)

    def allow_many(self, keys: Sequence[Hashable], costs: Sequence[int] | None = None) -> bytes:
        if costs is None:
            costs = [1] * len(keys)
        batch = [self.charges(*each) for each in zip(keys, costs, strict=True)]
        for table, _, cost in (charge for charges in batch for charge in charges):
            table.check(cost)
        with _lock:
            now_ns = self.clock.now_ns
            return bytes(decide(charges, now_ns).allowed for charges in batch)

    def update(self, limit: Given) -> None:
        limits = limits_from(limit)
        algorithms = [table.parameters.algorithm for table in self.tables]
        if [one.parameters().algorithm for one in limits] != algorithms:
            raise ValueError("update: the number of limits and their algorithms must stay the same")
        with _lock:
            now_ns = self.clock.now_ns
            for table, one in zip(self.tables, limits, strict=True):
                table.convert(one, now_ns)


def reference_acquire_all(triples: Iterable[tuple[ReferenceLimiter, Hashable, int]]) -> ReferenceDecision:
    """What `fastlimit.acquire_all` means; the limiters share a clock."""
    costs: dict[tuple[ReferenceLimiter, Hashable], int] = {}
    for limiter, key, cost in triples:
        costs[limiter, key] = costs.get((limiter, key), 0) + cost
    clock = next(limiter.clock for limiter, _ in costs)
    with _lock:
        charges = [charge for (limiter, key), cost in costs.items() for charge in limiter.charges(key, cost)]
        return decide(charges, clock.now_ns)
