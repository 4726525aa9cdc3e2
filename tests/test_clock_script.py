"""The system's clock on a cycle counter and system clocks that a test makes up, against what it promises.

A script lets the machine do what machines do to clocks: suspend for hours, move to another host, step the
wall clock by years, stop, or preempt a reader in the middle. What is told is compared, in Python's integers,
with the times that were made up. That the comparison finds a clock which trusts its counter is shown by one.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from scale import SEED, by_mode

MS = 10**6
SECOND = 10**9
HOUR = 3_600 * SECOND
YEAR = 8_766 * HOUR
READING = 20
"""What a reading of a source takes, in ns."""

BOUND_NS = MS
"""How far the clock is from the system's, once nothing has happened for a while (CALM_NS)."""

CALM_NS = 4 * SECOND
SPAN_NS = SECOND
"""For how long an anchor is believed: as far as a counter that cannot be believed takes time along."""

MOST_TICKS = 10 * SECOND
"""More than any counter here makes while an anchor is in force."""

LAST_WALL = 2**62
SCRIPTS = by_mode(100, 1_500, 20_000)
STEPS, BUSY = 300, 150
"""Readings of a script, and those between which things happen."""


class Machine:
    """The sources of a clock, in unbounded integers, and what happens to them."""

    def __init__(self, random_: random.Random) -> None:
        self.random = random_
        self.counter = random_.choice(
            (0, 1, 10**12, 2**63 - 10**9, 2**63, 2**64 - 10**11, random_.getrandbits(62))
        )
        self.boot = random_.choice((0, 1, 10 * SECOND, 10**14, 50 * YEAR, random_.getrandbits(61)))
        self.wall = random_.choice((0, 17 * 10**17, LAST_WALL - YEAR))
        self.host()
        self.fell = False
        self.calm_since = self.boot

    def host(self) -> None:
        """Another processor: from the slowest timer of arm64 to a fast x86."""
        self.rate = int(self.random.choice((0.024, 0.1, 1, 2.1, 3, 4.99)) * 2**32)

    def passes(self, ns: int, *, ticking: bool = True) -> None:
        self.boot += ns
        self.wall += ns
        if ticking:
            self.ticks(ns * self.rate >> 32)

    def ticks(self, number: int) -> None:
        before, self.counter = self.counter, (self.counter + number) % 2**64
        self.fell |= number < 0 or self.counter < before

    def duration(self, least: int, most: int) -> int:
        """Each order of magnitude as likely."""
        return int(least * (most / least) ** self.random.random())

    # ---- what happens

    def goes_on(self) -> None:
        self.passes(self.duration(1, 2 * SECOND))

    def ticks_along(self) -> None:
        self.passes(self.duration(MS, 300 * MS))

    def drifts(self) -> None:
        self.rate += self.rate * self.random.randint(-100, 100) // 10**6

    def is_suspended(self) -> None:
        self.passes(self.duration(SECOND, 30 * 24 * HOUR), ticking=self.random.random() < 0.2)

    def stops(self) -> None:
        self.passes(self.duration(1_000, HOUR), ticking=False)

    def leaps(self) -> None:
        self.ticks(self.duration(1, 2**62))

    def falls_back(self) -> None:
        self.ticks(-min(self.duration(1, 2**62), self.counter))

    def migrates(self) -> None:
        self.host()
        self.ticks(self.random.getrandbits(62) - self.counter)
        self.passes(self.duration(MS, 10 * SECOND), ticking=False)

    def wall_steps(self) -> None:
        step = self.random.choice((HOUR, -HOUR, 10 * YEAR, -10 * YEAR, self.random.randint(-SECOND, SECOND)))
        self.wall += step if abs(self.wall + step) < LAST_WALL else -step


QUIET = (Machine.goes_on, Machine.ticks_along, Machine.ticks_along, Machine.drifts, Machine.wall_steps)
HAPPENINGS = (Machine.is_suspended, Machine.stops, Machine.leaps, Machine.falls_back, Machine.migrates)


class Told(NamedTuple):
    """A reading, and what the sources said just before and just after."""

    now: int
    wall: int
    earliest: int
    latest: int
    counter: int


class Clock:
    """The kernel's clock on a machine."""

    def __init__(self, probe: ModuleType, machine: Machine) -> None:
        self.probe, self.machine = probe, machine
        self.sync()
        probe.start_clock(True)
        self.passed()

    def sync(self) -> None:
        machine = self.machine
        self.probe.follow(machine.counter, machine.rate, machine.boot, machine.wall, READING)

    def passed(self) -> None:
        self.machine.passes(self.probe.sources()[1] - self.machine.boot)

    def read(self) -> Told:
        self.sync()
        earliest, counter = self.machine.boot, self.machine.counter
        by_anchor = self.by_anchor()
        now = self.probe.now()
        assert by_anchor in (None, now)
        self.passed()
        return Told(now, now + self.probe.clock_state().wall_offset, earliest, self.machine.boot, counter)

    def by_anchor(self) -> int | None:
        """What the anchor in force says at the next reading, if it is in force then."""
        state, machine = self.probe.clock_state(), self.machine
        ticks = (machine.counter + (READING * machine.rate >> 32) - state.counter) % 2**64
        return state.ns + (ticks * state.rate >> 32) if ticks < state.span else None


class Trusting(Clock):
    """Control: believes its counter, as a rate found out once."""

    def __init__(self, probe: ModuleType, machine: Machine) -> None:
        super().__init__(probe, machine)
        self.counter, self.boot, self.rate = machine.counter, machine.boot, machine.rate
        self.offset = machine.wall - machine.boot

    def read(self) -> Told:
        machine = self.machine
        now = self.boot + ((machine.counter - self.counter) << 32) // self.rate
        return Told(now, now + self.offset, machine.boot, machine.boot, machine.counter)


class Unclamped(Clock):
    """Control: each reading is the kernel's, but an anchor begins where the system's clock is."""

    def read(self) -> Told:
        generation = self.probe.clock_state().generation
        told = super().read()
        if self.probe.clock_state().generation == generation:
            return told
        self.probe.edit_clock(ns=told.latest)
        return told._replace(now=told.latest, wall=told.wall + told.latest - told.now)


class Promises:
    """What a clock promises, checked reading by reading."""

    def __init__(self, clock: Clock, counts: Counter[str]) -> None:
        self.clock, self.machine, self.counts = clock, clock.machine, counts
        self.last = clock.read()
        self.most = self.last.now
        self.ticks_since = 0

    def check(self) -> None:
        told, last, machine = self.clock.read(), self.last, self.machine
        new_anchor = MOST_TICKS <= (told.counter - last.counter) % 2**64 and not machine.fell
        self.not_back(told)
        assert told.now - told.latest <= SPAN_NS + BOUND_NS, "further ahead than an anchor lasts"
        if new_anchor:
            assert told.now >= told.earliest, "behind, although the anchor has run out"
        if told.now - last.now >= SECOND:
            assert abs(told.wall - (told.now + machine.wall - machine.boot)) <= 3 * READING, "wall time"
        if machine.boot - machine.calm_since >= CALM_NS:
            self.counts["calm"] += 1
            assert told.earliest - BOUND_NS <= told.now <= told.latest + BOUND_NS, "off"
        self.counts["readings"] += 1
        self.counts["forward by a second or more"] += told.now - last.now >= SECOND
        self.last = told

    def not_back(self, told: Told) -> None:
        """A counter that falls back may take time along, by less than an anchor lasts; nothing else may."""
        back = self.last.now - told.now
        if self.machine.fell:
            assert back <= SPAN_NS
            self.counts["back with the counter"] += back > 0
        else:
            assert back <= 0, "back"
        self.machine.fell = False


def play(make: Callable[[ModuleType, Machine], Clock], probe: ModuleType, seed: str) -> Counter[str]:
    random_, counts = random.Random(seed), Counter[str]()
    machine = Machine(random_)
    promises = Promises(make(probe, machine), counts)
    for step in range(STEPS):
        happening: Any = random_.choice(QUIET)
        if step < BUSY and random_.random() < 0.1:
            happening = random_.choice(HAPPENINGS)
        happening(machine)
        if happening in HAPPENINGS:
            machine.calm_since = machine.boot
        counts[happening.__name__] += 1
        if random_.random() < 0.1:
            counts["preempted"] += 1
            probe.hiccup(random_.randrange(18), machine.duration(100, SECOND))
        promises.check()
    return counts


@pytest.fixture
def scripted(probe: ModuleType) -> Iterator[ModuleType]:
    yield probe
    probe.follow_none()


@pytest.mark.clocks
def test_the_clock_keeps_its_promises_whatever_happens(
    scripted: ModuleType, evidence: Callable[..., None]
) -> None:
    counts = Counter[str]()
    for number in range(SCRIPTS):
        counts += play(Clock, scripted, f"{SEED} {number}")
    evidence(scripts=SCRIPTS, **counts)
    assert min(counts[happening.__name__] for happening in (*QUIET, *HAPPENINGS)) >= SCRIPTS
    assert min(counts["calm"], counts["preempted"], counts["forward by a second or more"]) >= SCRIPTS
    assert counts["back with the counter"] > 0


def breaks(make: Callable[[ModuleType, Machine], Clock], probe: ModuleType, seed: str) -> bool:
    try:
        play(make, probe, seed)
    except AssertionError:
        return True
    return False


@pytest.mark.clocks
@pytest.mark.parametrize(("control", "least"), [(Trusting, 90), (Unclamped, 5)])
def test_a_clock_that_breaks_them_is_found_out(
    scripted: ModuleType, control: type[Clock], least: int, evidence: Callable[..., None]
) -> None:
    found = sum(breaks(control, scripted, f"{SEED} {number}") for number in range(100))
    evidence(scripts=100, found=found)
    assert found >= least


def test_no_suspend_is_taken_for_a_rate(scripted: ModuleType) -> None:
    """The first measurement has nothing to be compared with: an hour in it would make time run away."""
    for suspended_at in range(0, 30 * MS, MS // 2):
        machine = Machine(random.Random(0))
        clock = Clock(scripted, machine)
        for step in range(200):
            machine.passes(MS // 2)
            if step * MS // 2 == suspended_at:
                machine.passes(HOUR, ticking=False)
            told = clock.read()
            assert told.now - told.latest <= BOUND_NS
        assert clock.by_anchor() is not None, "no rate was found in 70 ms of quiet"


@pytest.mark.parametrize("trusted", [True, False])
def test_whoever_is_preempted_reads_the_wall_clock_rightly(scripted: ModuleType, trusted: bool) -> None:
    """10 ms between two readings of the sources, at any of those that make an offset."""
    for at in range(24):
        scripted.follow(10**12, 3 << 32, 10**14, 17 * 10**17, READING)
        scripted.start_clock(trusted)
        scripted.let_pass(2 * SECOND)
        scripted.edit_clock(wall_offset=0)
        scripted.hiccup(at, 10 * MS)
        scripted.now()
        assert abs(scripted.clock_state().wall_offset - (17 * 10**17 - 10**14)) <= READING
