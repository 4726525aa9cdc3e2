"""The engine one operation at a time, for `linearizability`: the algorithms of `fastlimit/algorithms/*.py`.

What a world holds: how far the clock and the limit have come, and the state of each bucket, a key's or one
that keys share when their window is full. What an operation may read early and use late (`sight`) is the
clock, the limit in force, a shared bucket, and that a key has no slot of its own.

Two things the engine does bucket by bucket are steps of their own here. An update is in force at once, but
each bucket is converted at a moment of its own before the update returns (`sweep`), or by its next charge.
And where keys may outnumber slots (`crowded`), a key that owes nothing may have lost its slot, and find none:
a window is looked at slot by slot, and counts as full if each owed when it was looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product
from typing import Any, Literal, NamedTuple

from linearizability import Event

from fastlimit.limits import Limit
from fastlimit.reference import PAST_NS, Table

WhenFull = Literal["share", "deny", "allow"]


class Bucket(NamedTuple):
    version: int
    """Of the limit that its state is expressed in."""
    state: Any


class World(NamedTuple):
    clock: int
    version: int
    buckets: tuple[Bucket | None, ...]
    """Of the keys, then the shared ones; None owes nothing."""


class Sight(NamedTuple):
    clock: int
    version: int
    shared: tuple[Bucket | None, ...] = ()
    slotless: tuple[bool, ...] = ()
    """Which keys owe nothing, and may have no slot."""


class Outcome(NamedTuple):
    allowed: bool
    remaining: int | None
    bucket: Bucket


class Sequential:
    def __init__(
        self,
        limits: Sequence[Limit],
        start: World,
        *,
        base_ns: int,
        steps: Sequence[int] = (),
        shares: Sequence[int] = (),
        when_full: WhenFull = "share",
        crowded: bool = False,
    ) -> None:
        """`limits`: one per version. `base_ns`: the first use. `steps`: by how much each "advance" moves the
        clock, by its event's `cost`. `shares`: the number of the bucket that each key may share."""
        self.start, self.steps, self.shares, self.crowded = start, steps, shares, crowded
        self.when_full = when_full
        self.tables = [Table(limit, None) for limit in limits]
        for table in self.tables:
            table.base_ns = base_ns - PAST_NS
        self.algorithm = self.tables[0].algorithm
        self.nothing = self.algorithm.fresh()
        self.outcome = cache(self._outcome)
        self.is_fresh = cache(self._is_fresh)

    def sight(self, world: World) -> Sight:
        if not self.crowded:
            return Sight(world.clock, world.version)
        keys = len(self.shares)
        slotless = tuple(self.owes_nothing(world, key) for key in range(keys))
        return Sight(world.clock, world.version, world.buckets[keys:], slotless)

    def after(self, world: World, event: Event, seen: Sequence[Sight]) -> Iterator[World]:
        if event.kind == "advance":
            yield world._replace(clock=world.clock + self.steps[event.cost])
        elif event.kind == "update":
            yield world._replace(version=world.version + 1)
        elif event.kind == "sweep":
            yield from self.swept(world, event, seen)
        else:
            yield from self.tried(world, event, seen, world.buckets[event.key], event.key)
            if self.crowded:
                yield from self.crowded_out(world, event, seen)

    # --- one bucket

    def _is_fresh(self, bucket: Bucket, clock: int) -> bool:
        table = self.tables[bucket.version]
        return bool(self.algorithm.is_fresh(bucket.state, table.units(clock), table.parameters))

    def converted(self, bucket: Bucket | None, version: int, clock: int) -> Any:
        """The state of a bucket in terms of a version's limit."""
        table = self.tables[version]
        now, state = table.units(clock), self.nothing if bucket is None else bucket.state
        if bucket is not None and bucket.version != version:
            old = self.tables[bucket.version]
            state = self.algorithm.convert(state, old.units(clock), now, old.parameters, table.parameters)
        if bucket is not None and table.parameters.epoch:
            state = self.algorithm.settle(state, now, table.parameters)
        return state

    def _outcome(self, kind: str, cost: int, bucket: Bucket | None, version: int, clock: int) -> Outcome:
        table, before = self.tables[version], self.converted(bucket, version, clock)
        now, limit, algorithm = table.units(clock), table.parameters, self.algorithm
        allowed, after = True, before
        if kind in ("charge", "peek"):
            allowed, after = algorithm.step(before, now, cost, limit)
            after = before if kind == "peek" else after
        elif kind == "debit":
            _, after = algorithm.debit(before, now, cost, limit)
        elif kind == "refund":
            after = algorithm.refund(before, now, cost, limit)
        elif kind == "reset":
            return Outcome(True, None, Bucket(version, self.nothing))
        if kind in ("debit", "refund"):
            before, cost = after, 0
        report = algorithm.report(before, after, now, cost, allowed, limit)
        return Outcome(allowed, report.remaining, Bucket(version, after))

    def tried(
        self, world: World, event: Event, seen: Sequence[Sight], bucket: Bucket | None, into: int | None
    ) -> Iterator[World]:
        """By each clock and limit that was seen; a bucket is never brought back to an older limit."""
        clocks = dict.fromkeys(sight.clock for sight in seen)
        for clock, version in product(clocks, dict.fromkeys(sight.version for sight in seen)):
            if bucket is not None and version < bucket.version:
                continue
            for left in self.results(event, bucket, version, clock, max(clocks)):
                writes = left is not None and into is not None and event.kind not in ("peek", "look")
                yield self.put(world, into, left) if writes else world

    def results(
        self, event: Event, bucket: Bucket | None, version: int, clock: int, latest: int
    ) -> Iterator[Bucket | None]:
        """What an event may make of a bucket if it is told what it was; None: it was refused.

        `latest` is the last clock that it may have seen; only a log has a use for that.
        """
        allowed, remaining, left = self.outcome(event.kind, event.cost, bucket, version, clock)
        if event.optional or (allowed, remaining) == (event.allowed, event.remaining):
            yield left if allowed else None

    def charged(self, cost: int) -> Bucket | None:
        """A bucket that was charged before the start."""
        clock, event = self.start.clock, Event("charge", 0, 0, cost=cost, optional=True)
        return next(self.results(event, None, 0, clock, clock))

    def put(self, world: World, number: int | None, bucket: Bucket | None) -> World:
        assert number is not None
        assert bucket is not None
        return world._replace(
            buckets=(*world.buckets[:number], self.tidy(bucket), *world.buckets[number + 1 :])
        )

    def tidy(self, bucket: Bucket) -> Bucket | None:
        return None if bucket.state == self.nothing else bucket

    def swept(self, world: World, event: Event, seen: Sequence[Sight]) -> Iterator[World]:
        """One bucket, once the update that `cost` numbers is in force."""
        bucket = world.buckets[event.key]
        if world.version < event.cost:
            return
        if bucket is None or bucket.version == world.version:
            yield world
            return
        for clock in dict.fromkeys(sight.clock for sight in seen):
            state = self.converted(bucket, world.version, clock)
            yield self.put(world, event.key, Bucket(world.version, state))

    # --- more keys than slots

    def owes_nothing(self, world: World, key: int) -> bool:
        bucket = world.buckets[key]
        return bucket is None or self.is_fresh(bucket, world.clock)

    def crowded_out(self, world: World, event: Event, seen: Sequence[Sight]) -> Iterator[World]:
        """The key has no slot: it gets one, and starts from the shared bucket; or its window is full."""
        gives = event.kind in ("refund", "reset")
        if self.owes_nothing(world, event.key):
            for start in self.starts(world, event.key, seen):
                kind, into = ("look", None) if event.kind == "refund" else (event.kind, event.key)
                yield from self.tried(world, event._replace(kind=kind), seen, start, into)
        if not gives and any(sight.slotless[event.key] for sight in seen):
            yield from self.full(world, event, seen)

    def starts(self, world: World, key: int, seen: Sequence[Sight]) -> set[Bucket | None]:
        if self.when_full != "share":
            return {None}
        starts = {sight.shared[self.shares[key] - len(self.shares)] for sight in seen}
        if any(start is not None and self.is_fresh(start, world.clock) for start in starts):
            starts.add(None)
        return starts

    def full(self, world: World, event: Event, seen: Sequence[Sight]) -> Iterator[World]:
        if self.when_full == "share":
            shared = self.shares[event.key]
            yield from self.tried(world, event, seen, world.buckets[shared], shared)
        elif self.when_full == "deny":
            if event.optional or (event.allowed, event.remaining) == (False, 0):
                yield world
        else:
            rooms = {self.tables[sight.version].parameters.capacity for sight in seen}
            if event.optional or (event.allowed and event.remaining in rooms):
                yield world
