"""A table under siege: keys that owe, a flood of keys never seen, and what the flood did to the former.

Checks note what they find and go on, so that a control can show which of them notices it.
"""

from __future__ import annotations

import gc
import math
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from resource import getpagesize
from types import ModuleType
from typing import Any, Literal, NamedTuple

from scale import SEED, by_mode

from fastlimit import Limiter
from fastlimit.limits import Limit
from fastlimit.reference import ReferenceLimiter
from fastlimit.testing import ManualClock

WhenFull = Literal["share", "deny", "allow"]
Flood = Callable[[Limiter, Sequence[str]], bytes]

CAPACITY = 10
VICTIMS = [f"victim {i}" for i in range(1_000)]
BYSTANDERS = [f"bystander {i}" for i in range(100)]
HANDLES = 50
SAMPLE = 16
OVERFLOW_SLOTS = 64

ROUNDS = by_mode(20, quick=100, full=100)
STEP_S = 3_000 // ROUNDS
START_S = 1_767_229_200
"""2026-01-01 01:00 UTC: days last longer than a siege of 50 minutes."""
DAY_S = 86_400

MOST_GROWTH = 2**20
"""Bytes that the process may grow by after the first round, in which every allocation was made once."""
MOST_NEW_BLOCKS = 500
"""Objects that it may hold more than then."""


def as_the_engine_does(limiter: Limiter, keys: Sequence[str]) -> bytes:
    """Most in batches, some one by one."""
    single = keys[: len(keys) // 16]
    return bytes(map(limiter.allow, single)) + limiter.allow_many(keys[len(single) :])


def attackers() -> Iterator[str]:
    """Keys that never repeat: addresses all over IPv4, the addresses of one IPv6 /64, random texts."""
    draw = random.Random(SEED)
    start4, start6, i = draw.getrandbits(32), draw.getrandbits(64), 0
    while True:
        i += 1
        v4 = (start4 + i * 0x9E3779B1) % 2**32  # odd factors: all different
        v6 = (start6 + i * 0x9E3779B97F4A7C15) % 2**64
        yield f"{v4 >> 24}.{v4 >> 16 & 255}.{v4 >> 8 & 255}.{v4 & 255}"
        yield f"2001:db8:17:2a:{v6 >> 48:x}:{v6 >> 32 & 0xFFFF:x}:{v6 >> 16 & 0xFFFF:x}:{v6 & 0xFFFF:x}"
        yield f"{draw.getrandbits(96):x}"


def fields(decision: Any) -> tuple[Any, ...]:
    names = ("allowed", "limit", "remaining", "retry_after_ns", "reset_after_ns", "delay_ns", "name")
    return tuple(getattr(decision, name) for name in names)


def resident_bytes() -> int:
    return getpagesize() * int(Path("/proc/self/statm").read_text().split()[1])


class Memory(NamedTuple):
    resident: int
    blocks: int

    @classmethod
    def now(cls) -> Memory:
        gc.collect()
        return cls(resident_bytes(), sys.getallocatedblocks())


class Siege:
    """What stands at its end: `findings`, by name of the check, none if all is well; and what was counted."""

    def __init__(
        self,
        probe: ModuleType,
        limit: Limit,
        when_full: WhenFull,
        max_keys: int,
        *,
        flood: Flood = as_the_engine_does,
        account: WhenFull | None = None,
    ) -> None:
        self.probe, self.flood, self.max_keys = probe, flood, max_keys
        self.when_full = account or when_full
        self.clock = ManualClock(START_S - 2 * DAY_S)
        self.make = partial(Limiter, limit, max_keys=max_keys, when_full=when_full, clock=self.clock)
        self.limiter, self.model = self.new_limiter(), ReferenceLimiter(limit, clock=self.clock)
        self.source = attackers()
        self.findings: Counter[str] = Counter()
        self.flooded = self.slots_claimed = self.admitted = self.overflow_grants = 0
        self.people()

    def expect(self, what: str, holds: bool) -> None:
        if not holds:
            self.findings[what] += 1

    # --- before

    def new_limiter(self) -> Limiter:
        """All of a siege place their keys alike."""
        draw, limiter = random.Random(SEED), self.make()
        self.probe.set_secret(limiter, [draw.getrandbits(64) for _ in range(4)])
        return limiter

    def people(self) -> None:
        """Victims owe twice what they had, bystanders all but one unit; every slot was used before."""
        overflow = self.overflow()
        self.limiter.allow_many(self.keys(3 * self.max_keys))
        for index, cell in overflow.items():  # so that what they count begins at 0 for windows, too
            self.probe.write(self.limiter, index, cell)
        self.clock.set(START_S)
        stats = self.limiter.stats()
        assert 0 == stats.keys
        self.events_before = stats.full_events
        for name in VICTIMS:
            self.limiter.acquire(name, CAPACITY)
            self.limiter.debit(name, CAPACITY)
        for name in BYSTANDERS:
            self.limiter.acquire(name, CAPACITY - 1)
        self.model.acquire(VICTIMS[0], CAPACITY)  # one of each stands for all
        self.model.debit(VICTIMS[0], CAPACITY)
        self.model.acquire(BYSTANDERS[0], CAPACITY - 1)
        self.handles = [self.limiter.bucket(name) for name in VICTIMS[:HANDLES]]
        self.first_wait_ns = self.limiter.peek(VICTIMS[0]).retry_after_ns
        stats = self.limiter.stats()
        assert (len(VICTIMS) + len(BYSTANDERS), 0) == (stats.keys, stats.full_events - self.events_before)

    def keys(self, number: int) -> list[str]:
        return [next(self.source) for _ in range(number)]

    # --- the siege

    def run(self, rounds: int = ROUNDS) -> Siege:
        """As many random keys in each round as the table was built for; then time passes."""
        self.table_bytes = self.limiter.stats().table_bytes
        for round in range(rounds):
            self.one_round()
            if round == 0:
                self.full = Memory.now()
        self.end = Memory.now()
        self.expect("resident memory", self.end.resident - self.full.resident <= MOST_GROWTH)
        self.expect("allocations", self.end.blocks - self.full.blocks <= MOST_NEW_BLOCKS)
        self.expect("table_bytes", self.limiter.stats().table_bytes == self.table_bytes)
        return self

    def one_round(self) -> None:
        keys = self.keys(self.max_keys)
        before, owed = self.limiter.stats(), self.overflow_admitted()
        verdicts = self.flood(self.limiter, keys)
        after = self.limiter.stats()
        self.account(
            len(keys),
            sum(verdicts),
            after.keys - before.keys,
            after.full_events - before.full_events,
            self.overflow_admitted() - owed,
        )
        self.check_newcomers(
            [key for key, verdict in zip(keys, verdicts, strict=True) if not verdict][:SAMPLE]
        )
        self.check_people()
        self.clock.advance(STEP_S)

    def overflow(self) -> dict[int, Any]:
        first = self.probe.slot_count(self.limiter)
        return {i: self.probe.read(self.limiter, i) for i in range(first, first + OVERFLOW_SLOTS)}

    def overflow_admitted(self) -> int:
        return sum(cell.hi & (2**32 - 1) for cell in self.overflow().values())

    def account(self, calls: int, passed: int, claimed: int, events: int, shared: int) -> None:
        """Time stands still within a round, so each newcomer is in a slot, or is a full event."""
        self.flooded += calls
        self.slots_claimed += claimed
        self.admitted += passed
        self.overflow_grants += shared
        as_documented = {
            "share": passed == claimed + shared and shared <= events <= calls - claimed,
            "deny": (passed, events, shared) == (claimed, calls - claimed, 0),
            "allow": (passed, events, shared) == (calls, calls - claimed, 0),
        }
        self.expect("full events", as_documented[self.when_full])

    def check_people(self) -> None:
        """Nobody who owes was changed by anything but time."""
        wait_ns = self.first_wait_ns - (self.clock.now_ns - START_S * 10**9)
        for what, names in [("victims", VICTIMS), ("bystanders", BYSTANDERS)]:
            decisions = [self.limiter.peek(name) for name in names]
            expected = fields(decisions[0]) == fields(self.model.peek(names[0]))
            self.expect(what, expected and decisions.count(decisions[0]) == len(names))
            if what == "victims":
                waits = {(decision.remaining, decision.retry_after_ns) for decision in decisions}
                self.expect("victims' wait", waits == {(0, wait_ns)})
        let_in = sum(self.limiter.allow_many(VICTIMS)) + sum(map(self.limiter.allow, VICTIMS[:HANDLES]))
        let_in += sum(handle.allow() for handle in self.handles)
        self.expect("victims let in", let_in == 0)

    def check_newcomers(self, refused: Sequence[str]) -> None:
        """What the guide says of a key without a place."""
        for key in refused:
            decision = self.limiter.acquire(key)
            self.expect("newcomer refused", not decision and decision.remaining == 0)
            if self.when_full == "deny":
                self.expect("newcomer's wait", self.opens_after(key, decision.retry_after_ns))
            lost = self.limiter.stats().lost_on_full
            self.limiter.reset(key)
            noted = self.limiter.stats().lost_on_full - lost
            self.expect("newcomer's reset", noted == (self.when_full == "share"))
            self.expect("newcomer after reset", fields(self.limiter.acquire(key)) == fields(decision))
        if self.when_full == "allow":
            fresh = fields(self.model.peek("never seen"))
            [key] = self.keys(1)
            while self.limiter.peek(key).reset_after_ns:
                [key] = self.keys(1)
            self.expect("newcomer let through", fields(self.limiter.peek(key)) == fresh)

    def opens_after(self, key: str, wait_ns: int) -> bool:
        """Whether the key finds a place then, and not a nanosecond before. Looking changes nothing."""
        now_ns, found = self.clock.now_ns, []
        for instant in (now_ns + wait_ns - 1, now_ns + wait_ns):
            self.clock.set_ns(instant)
            found.append(self.limiter.peek(key).allowed)
        self.clock.set_ns(now_ns)
        return found == [False, True]

    # --- what a look-up costs in a full table

    def looks(self, what: str, keys: Sequence[str]) -> Looks:
        return Looks.of([self.probe.looks(self.limiter, key, what) for key in keys])

    # --- after it

    def check_usable(self, rest_s: int = 3 * DAY_S) -> None:
        """When all debts have passed, the table is as good as a new one."""
        self.clock.advance(rest_s)
        other = self.new_limiter()
        before = self.limiter.stats()
        self.expect("nobody owes", before.keys == 0)
        for number in (self.max_keys // 2, self.max_keys):
            keys = self.keys(self.max_keys // 2)
            verdicts, stats = self.limiter.allow_many(keys), self.limiter.stats()
            events = stats.full_events - before.full_events
            self.expect("as new", verdicts == other.allow_many(keys))
            self.expect("slots as new", (stats.keys, events) == other.stats()[3:6:2])
            self.expect("half of the keys", number == self.max_keys or (stats.keys, events) == (number, 0))


class Looks(NamedTuple):
    """Slots that are looked at: half of the calls, all but one in 10,000, and the most; how far from home."""

    p50: int
    p9999: int
    most: int
    reach: int
    strays: int

    @classmethod
    def of(cls, looked: Sequence[Any]) -> Looks:
        looks = sorted(one.looks for one in looked)
        p50, p9999 = (looks[math.ceil(share * len(looks)) - 1] for share in (0.5, 0.9999))
        reach = max(one.reach for one in looked)
        return cls(p50, p9999, looks[-1], reach, sum(one.strays for one in looked))
