"""Programs of a few calls, drawn from a seed, and what must be true of each under any schedule.

A program is 2 to 4 callers with 1 to 3 operations each, on 1 to 3 keys of a small table, which may be nearly
full. A schedule is drawn, too: up to three times a caller is held up, and one may die, each at any atomic
access (`probe/stage.h`). Then everybody who is left comes back: each key is looked at and charged.

    explained     one order of all operations, those afterwards included, gives each its outcome; what the
                  dead caller was at happened or did not (`linearizability`, `sequential`; tickets are exact)
    one slot      no key is live in two
    no debris     long after, the table takes as many new keys as one that was never used
    no hang       a bounded number of steps; more raises RuntimeError

A program and a schedule are drawn from their number and the seed, so a failure is repeated by them alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple, get_args

from kernel_probe import SECOND, START_S, VERSIONS, WINDOW, Table
from linearizability import Event, search, written
from scale import SEED
from sequential import Bucket, Sequential, WhenFull, World
from sequential_log import sequential

from fastlimit import FixedWindow, LeakyBucket, SlidingLog, SlidingWindow, TokenBucket
from fastlimit.limits import Limit

LIMITS: dict[str, list[Limit]] = {
    "token-bucket": [TokenBucket("3/s"), TokenBucket("2/s", burst=5), TokenBucket("8/minute", burst=2)],
    "leaky-bucket": [LeakyBucket("3/s"), LeakyBucket("2/s", capacity=5), LeakyBucket("8/minute", capacity=2)],
    "fixed-window": [FixedWindow("3/s"), FixedWindow("5/s"), FixedWindow("2/minute")],
    "from-first": [FixedWindow(rate, anchor="first") for rate in ("3/s", "5/s", "2/minute")],
    "sliding-window": [SlidingWindow("3/s"), SlidingWindow("5/s"), SlidingWindow("2/minute")],
    "sliding-log": [SlidingLog("3/s"), SlidingLog("5/s"), SlidingLog("2/s")],
}
"""Each with those that updates draw from. No capacity is below the highest cost but one."""

KEYS = ("a", "b", "c")
CHANGES = {"charge": 10, "debit": 1, "refund": 2, "reset": 2, "peek": 2}
STEPS = (0, SECOND, 2 * SECOND)
LONG_AFTER_NS = 1_000 * 86_400 * SECOND
NEWCOMERS = [f"new {i}" for i in range(WINDOW)]
SCHEDULES = 25
"""Of each program."""
PREEMPTIONS = 3


class Operation(NamedTuple):
    kind: str
    key: int
    cost: int


Make = Callable[[Table, str, int], Any]
"""A charge."""
Change = Callable[[Table, Limit], Any]
"""An update."""


def charge(table: Table, key: str, cost: int) -> Any:
    return table.probe.charge((table.limiter, key, cost))


def update(table: Table, limit: Limit) -> Any:
    return table.probe.update(table.limiter, limit)


class Ran(NamedTuple):
    """One schedule."""

    complaint: str
    """What is wrong; nothing if it is as it must be."""
    preemptions: int
    died_at: int
    """The place in the code; 0 if nobody died."""
    lost: int
    raced: int
    full_events: int
    updates: int


class Program:
    def __init__(
        self, probe: ModuleType, kind: str, number: int, make: Make = charge, change: Change = update
    ) -> None:
        self.number, self.updates = number, 0
        self.rng = random.Random(f"{SEED} {kind} {number}")
        rng, limits = self.rng, LIMITS[kind]
        self.when_full: WhenFull = rng.choice(get_args(WhenFull))
        self.keys = KEYS[: rng.choice([1, 2, 2, 3])]
        self.clients = self.draw()
        self.peeks = any(operation.kind == "peek" for client in self.clients for operation in client)
        updates = sum(operation.kind == "update" for client in self.clients for operation in client)
        self.limits = [rng.choice(limits) for _ in range(1 + updates)]
        roomiest = max(limits, key=lambda limit: limit.parameters().capacity)  # a log is as long as at first
        self.table = Table(probe, roomiest, when_full=self.when_full)
        self.limiter = self.table.limiter
        self.shared = sorted({self.table.overflow(key) for key in self.keys})
        self.start_ns = START_S * SECOND
        self.specification = self.specify()
        self.calls = [[self.call(one, make, change).record() for one in client] for client in self.clients]
        self.afterwards = [
            Operation(kind, key, 1) for key in range(len(self.keys)) for kind in ("peek", "charge")
        ]
        self.last_calls = [self.call(one, charge, update).record() for one in self.afterwards]
        self.memory = probe.memory(self.limiter)
        self.full_events = self.limiter.stats().full_events

    def draw(self) -> list[list[Operation]]:
        """The first client alone updates, the second alone moves the clock: in the engine, updates wait for
        each other, and a clock that two move may lose a step.

        A quarter of the programs is about turnover: keys are charged, run out, and lose their slots.
        """
        rng, kinds, weights = self.rng, list(CHANGES), list(CHANGES.values())
        if rng.random() < 0.25:
            kinds, weights = ["charge"], [1]
        clients = []
        for i in range(rng.choice([2, 3, 4])):
            operations = []
            for turn in range(3 if i == 1 and kinds == ["charge"] else rng.choice([1, 2, 3])):
                kind = rng.choices(kinds, weights)[0]
                if i < 2 and rng.random() < 0.3 and kinds != ["charge"]:
                    kind = ("update", "advance")[i]
                if i == turn == 1 and kinds == ["charge"]:
                    kind = "advance"
                operations.append(Operation(kind, rng.randrange(len(self.keys)), rng.choice([1, 1, 1, 2])))
            clients.append(operations)
        return clients

    def specify(self) -> Sequential:
        """Fill the table but for few slots in front, or leave it empty; charge a key beforehand, or none."""
        rng, limiter = self.rng, self.limiter
        free = rng.choice([0, 1, 2, 3, WINDOW])
        limiter.peek("first use")
        for _ in range(VERSIONS):  # so that no set of parameters is all zero, by which a control would divide
            limiter.update(self.limits[0])
        if free < WINDOW:
            for i in range(WINDOW):
                limiter.debit(f"filler {i}", 2 * limiter.peek("first use").limit)
            for i in range(free):
                limiter.reset(f"filler {i}")
        buckets: list[Bucket | None] = [None] * (len(self.keys) + len(self.shared))
        specification = sequential(
            self.limits,
            World(self.start_ns, 0, ()),
            base_ns=self.start_ns,
            steps=STEPS,
            shares=[len(self.keys) + self.shared.index(self.table.overflow(key)) for key in self.keys],
            when_full=self.when_full,
        )
        self.scarce, self.filled = free < len(self.keys), free < WINDOW
        if free and rng.random() < 0.5:
            limiter.acquire(self.keys[0], 2)
            buckets[0] = specification.charged(2)
        specification.start = World(self.start_ns, 0, tuple(buckets))
        return specification

    def call(self, operation: Operation, make: Make, change: Change) -> Any:
        probe, (kind, key, cost) = self.table.probe, operation
        if kind == "advance":
            return probe.advance(self.table.clock, STEPS[cost])
        if kind == "update":
            return change(self.table, self.next_limit())
        if kind == "charge":
            return make(self.table, self.keys[key], cost)
        return probe.operate(kind, self.limiter, self.keys[key], cost)

    def next_limit(self) -> Limit:
        self.updates += 1
        return self.limits[self.updates]

    # --- one schedule

    def run(self, schedule: int) -> Ran:
        probe, table = self.table.probe, self.table
        rng = random.Random(f"{SEED} {self.number} {schedule}")
        parts = list(self.calls)
        rng.shuffle(parts)
        for call in (*self.last_calls, *(call for part in parts for call in part)):
            call.clear()
        probe.watch_slots(self.limiter, 4, self.keys, table.clock)
        one_in, deaths = rng.choice([3, 6, 12, 24, 48]), rng.choice([0, 1])
        drawn = probe.play_drawn(parts, rng.getrandbits(64), one_in, PREEMPTIONS, deaths)
        probe.play([self.last_calls], b"", 0, 0)
        clients = self.history(drawn.died)
        full_events = self.limiter.stats().full_events - self.full_events
        self.specification.crowded = self.scarce or (self.filled and (full_events > 0 or self.peeks))
        complaint = self.complaint(clients)
        probe.restore(self.limiter, self.memory)
        table.clock.set_ns(self.start_ns)
        if complaint:
            setting = f"{self.limits}, when full {self.when_full}"
            complaint = f"{complaint}\n{drawn}\n{setting}\n{written(clients)}"
        updates = len(self.limits) - 1
        return Ran(complaint, drawn.preemptions, drawn.hook, drawn.lost, drawn.raced, full_events, updates)

    def history(self, died: int) -> list[list[Event]]:
        clients = [
            [event for event in map(observed, operations, calls, [died] * len(calls)) if event.called]
            for operations, calls in zip(
                [*self.clients, self.afterwards], [*self.calls, self.last_calls], strict=True
            )
        ]
        updates = [event for event in clients[0] if event.kind == "update"]
        sweeps = [
            [event._replace(kind="sweep", key=bucket, cost=1 + i) for i, event in enumerate(updates)]
            for bucket in range(len(self.specification.start.buckets))
        ]
        return [*clients, *(sweeps if updates else [])]

    def complaint(self, clients: Sequence[Sequence[Event]]) -> str:
        found = search(clients, self.specification)
        if not found.linearizable:
            return f"no order explains more than {found.most} operations"
        slots = {key: self.table.probe.live_slots(self.limiter, key) for key in self.keys}
        if max(slots.values()) > 1:
            return f"live slots: {slots}"
        before = self.limiter.stats().full_events
        self.table.clock.advance_ns(LONG_AFTER_NS)
        allowed = sum(self.limiter.allow_many(NEWCOMERS))
        after = self.limiter.stats()
        if (WINDOW, WINDOW, before) != (allowed, after.keys, after.full_events):
            return f"long after, of {WINDOW} new keys {allowed} were allowed, and {after.keys} have a slot"
        return ""


def observed(operation: Operation, call: Any, died: int) -> Event:
    called, returned, allowed, remaining = call.recorded()
    return Event(
        operation.kind,
        called,
        returned or died,
        operation.key,
        operation.cost,
        allowed,
        remaining,
        optional=not returned,
    )
