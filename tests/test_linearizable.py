"""Histories of real threads without the GIL: one order of their operations explains all that each was told.

A history is 24 operations of 2 to 4 C threads on one or two keys, each with a ticket at its call and one at
its return, its outcome, and what it said remained. The clock stands still, or one of the threads moves it;
the specification (`sequential`) then allows a reading from any moment between an operation's call and its
effect (`linearizability` says why). Nothing else is allowed for: no bound, no share of histories.

The control's charges load, then store. A search that explains those explains anything.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from kernel_probe import SECOND, START_S, Table
from linearizability import Event, linearizable, overlaps, search, written
from scale import SEED, by_mode
from sequential import Bucket, Sequential, World
from sequential_log import sequential

from fastlimit import FixedWindow, LeakyBucket, SlidingLog, SlidingWindow, TokenBucket
from fastlimit.limits import Limit

pytestmark = pytest.mark.linearizable

LIMITS: dict[str, Limit] = {
    "token-bucket": TokenBucket("12/s"),
    "leaky-bucket": LeakyBucket("12/s"),
    "fixed-window": FixedWindow("12/s"),
    "from-first": FixedWindow("12/s", anchor="first"),
    "sliding-window": SlidingWindow("12/s"),
    "sliding-log": SlidingLog("12/s"),
}
each_limit = pytest.mark.parametrize("kind", LIMITS)
each_clock = pytest.mark.parametrize("clock", ["frozen", "stepped"])

OPERATIONS = 24
HISTORIES = by_mode(100, quick=600, full=20_000 // (2 * len(LIMITS)) + 1)
"""Of each limit under each clock."""
CONTROLS = by_mode(50, quick=200, full=1_000)
PLAYS = 10
"""Histories of the same calls: they come out differently."""

START_NS = START_S * SECOND
STEPS = (SECOND // 8, SECOND // 4, SECOND // 2, SECOND)
KEYS = ("k", "other")
CHANGES = {"charge": 12, "peek": 3, "debit": 1, "refund": 3, "reset": 1}
JUMPS = ("refund", "reset")
"""What moves a log's count on by rings. A plain store that loses that leaves intents in the way for ever."""


class Operation(NamedTuple):
    kind: str
    key: int
    cost: int


Make = Callable[[Table, Operation], Any]


def call(table: Table, operation: Operation) -> Any:
    probe, (kind, key, cost) = table.probe, operation
    if kind == "advance":
        return probe.advance(table.clock, STEPS[cost])
    if kind == "charge":
        return probe.charge((table.limiter, KEYS[key], cost))
    return probe.operate(kind, table.limiter, KEYS[key], cost)


def careless(table: Table, operation: Operation) -> Any:
    """The control."""
    if operation.kind != "charge":
        return call(table, operation)
    return table.probe.load_then_store(table.limiter, KEYS[operation.key], operation.cost)


def drawn(rng: random.Random, clock: str, left_out: Sequence[str]) -> list[list[Operation]]:
    """The operations of each client; one alone moves a stepped clock, since an advance is two accesses."""
    clients, keys = rng.choice([2, 3, 4]), rng.choice([1, 1, 1, 2])
    changes = {kind: weight for kind, weight in CHANGES.items() if kind not in left_out}
    kinds, weights = list(changes), list(changes.values())
    operations = [
        [
            Operation(rng.choices(kinds, weights)[0], rng.randrange(keys), rng.choice([1, 1, 2, 3]))
            for _ in range(OPERATIONS // clients)
        ]
        for _ in range(clients)
    ]
    if clock == "stepped":
        for i in rng.sample(range(len(operations[0])), 2):
            operations[0][i] = Operation("advance", 0, rng.randrange(len(STEPS)))
    return operations


def told(operation: Operation, call: Any) -> Event:
    called, returned, allowed, remaining = call.recorded()
    return Event(operation.kind, called, returned, operation.key, operation.cost, allowed, remaining)


class History(NamedTuple):
    clients: list[list[Event]]
    specification: Sequential
    lost: int


def histories(
    probe: ModuleType,
    limit: Limit,
    clock: str,
    make: Make = call,
    *,
    one_in: Sequence[int] = (2,),
    at_once: bool = True,
) -> Iterator[History]:
    """No end of them; at one in so many atomic accesses, in turns, a thread yields.

    Not `at_once`, one thread makes all the calls.
    """
    rng = random.Random(f"{SEED} {limit} {clock}")
    left_out = JUMPS if make is careless and isinstance(limit, SlidingLog) else ()
    while True:
        table = Table(probe, limit)
        table.limiter.peek("first use")
        buckets: list[Bucket | None] = [None, None]
        specification = sequential([limit], World(START_NS, 0, (None, None)), base_ns=START_NS, steps=STEPS)
        if rng.random() < 0.5:
            table.limiter.acquire(KEYS[0], 2)
            buckets[0] = specification.charged(2)
        specification.start = World(START_NS, 0, tuple(buckets))
        operations = drawn(rng, clock, left_out)
        calls = [[make(table, operation).record() for operation in client] for client in operations]
        parts = calls if at_once else [[call for client in calls for call in client]]
        memory = probe.memory(table.limiter)
        for play in range(PLAYS):
            lost = probe.storm(parts, 1, one_in[play % len(one_in)])[1]
            clients = [
                [told(*each) for each in zip(*client, strict=True)]
                for client in zip(operations, calls, strict=True)
            ]
            yield History(clients, specification, lost)
            probe.restore(table.limiter, memory)
            table.clock.set_ns(START_NS)


def in_order_of_calls(history: History) -> bool:
    """Whether it is explained as if each operation had waited for those that were called before it."""
    events = sorted((event for client in history.clients for event in client), key=lambda event: event.called)
    one_by_one = [event._replace(called=2 * i, returned=2 * i + 1) for i, event in enumerate(events)]
    return linearizable([one_by_one], history.specification)


@each_clock
@each_limit
def test_some_order_explains_each_history(
    probe: ModuleType, evidence: Callable[..., None], kind: str, clock: str
) -> None:
    overlapped = disordered = collided = lost = configurations = operations = 0
    for history in islice(histories(probe, LIMITS[kind], clock, one_in=(2, 16)), HISTORIES):
        found = search(history.clients, history.specification)
        assert found.linearizable, f"after {found.most} operations:\n{written(history.clients)}"
        operations += sum(map(len, history.clients))
        overlapped += overlaps(history.clients) > 0
        disordered += not in_order_of_calls(history)
        collided += history.lost > 0
        lost += history.lost
        configurations += found.configurations
    evidence(
        histories=HISTORIES,
        operations=operations,
        histories_that_overlapped=overlapped,
        histories_not_in_order_of_calls=disordered,
        histories_with_lost_swaps=collided,
        lost_swaps=lost,
        configurations=configurations,
    )
    assert OPERATIONS * HISTORIES == operations
    assert overlapped >= 0.8 * HISTORIES
    assert disordered >= 0.1 * HISTORIES
    assert collided >= 0.1 * HISTORIES


@each_clock
@each_limit
def test_of_charges_that_load_then_store_many_histories_have_none(
    probe: ModuleType, evidence: Callable[..., None], kind: str, clock: str
) -> None:
    """Control."""
    flagged = sum(
        not linearizable(history.clients, history.specification)
        for history in islice(histories(probe, LIMITS[kind], clock, careless), CONTROLS)
    )
    evidence(histories=CONTROLS, flagged=flagged)
    assert flagged >= 0.2 * CONTROLS


@each_clock
@each_limit
def test_one_after_the_other_such_charges_do_as_well(probe: ModuleType, kind: str, clock: str) -> None:
    """The control is caught by what its threads do to each other, and by nothing else."""
    for history in islice(histories(probe, LIMITS[kind], clock, careless, at_once=False), CONTROLS):
        assert 0 == overlaps(history.clients)
        assert linearizable(history.clients, history.specification), written(history.clients)
