"""Readers of the clock in each other's way: every order of turns, on a counter and system clocks made up.

A reader loses its turn before any atomic access and before any reading of a source, for as long as the others
say, or for ever. What is told must never go back: a reading that begins after another has ended is no
earlier. So a new anchor is to begin no earlier than all that was told before, whoever was preempted where.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import NamedTuple

import pytest
from scale import SEED, by_mode

MS = 10**6
SECOND = 10**9
HOUR = 3_600 * SECOND
GHZ = 3
RATE = (1 << 32) // GHZ
COUNTER, BOOT, WALL = 10**15, 10**14, 17 * 10**17

RUNS = by_mode(500, 5_000, 100_000)
PREEMPTIONS = by_mode(1, 2, 3)
POINTS = 250
"""About as many as a run of three readers has."""

Parts = list[list[int]]
"""For each reader, how much time passes before each of its readings."""


class Scene(NamedTuple):
    """How the clock stands when the readers come, in ns: how far ahead, or how far behind, since when."""

    ahead: int = 0
    since: int = SECOND
    jump: int = 0
    known: bool = True
    slows: int = 0
    """By how many parts in a million the counter gets slower just then; nobody can know yet."""

    def lay(self, probe: ModuleType) -> None:
        before = (GHZ << 32) * (10**6 + self.slows) // 10**6
        probe.follow(COUNTER, before, BOOT, WALL)
        probe.start_clock(True)
        _, boot, _ = probe.sources()
        counter, began = probe.sources()[0], boot
        probe.let_pass(self.since)
        boot_later = probe.sources()[1] + self.jump
        probe.follow(probe.sources()[0], GHZ << 32, boot_later, boot_later + WALL - BOOT)
        probe.edit_clock(
            counter=counter,
            rate=(1 << 64) // before if self.known else 0,
            span=self.since * before >> 32 if self.known else 0,
            ns=began + self.ahead,
            origin=counter,
            origin_ns=began,
            first_rate=0 if self.known else RATE,
        )


SCENES = {
    "right": Scene(),
    "ahead by 0.5 ms": Scene(ahead=MS // 2),
    "ahead by 0.9 ms, young": Scene(ahead=9 * MS // 10, since=5 * MS),
    "behind by 0.5 ms": Scene(ahead=-MS // 2),
    "a counter that slows down": Scene(slows=500),
    "an hour suspended": Scene(jump=HOUR),
    "far ahead": Scene(ahead=SECOND // 2),
    "the first rate": Scene(since=5 * MS, known=False),
}

GAPS = (0, 0, 1, 100, 1_000, MS, 10 * MS, 200 * MS, SECOND, 3 * SECOND)


def went_back(readings: Sequence[tuple[int, int, int]]) -> int:
    """By how much at worst a reading is earlier than one that ended before it began."""
    worst = latest = 0
    events = [(began, True, told) for began, _, told in readings]
    events += [(ended, False, told) for _, ended, told in readings]
    floors: dict[int, int] = {}
    for at, begins, told in sorted(events):
        if begins:
            floors[at] = latest
        else:
            latest = max(latest, told)
    for began, _, told in readings:
        worst = max(worst, floors[began] - told)
    return worst


class Run(NamedTuple):
    options: bytes
    readings: list[tuple[int, int, int]]

    @property
    def back(self) -> int:
        return went_back(self.readings)


def run(
    probe: ModuleType, scene: Scene, parts: Parts, choices: bytes, *, deaths: int = 0, careless: bool = False
) -> Run:
    scene.lay(probe)
    if careless:
        probe.careless()
    return Run(*probe.play_readings(parts, choices, 3, deaths))


def drawn(random_: random.Random) -> tuple[Parts, bytes]:
    """Two or three readers, and choices of which up to five are a change of turn or a death."""
    parts = [
        [random_.choice(GAPS) for _ in range(random_.randint(1, 3))] for _ in range(random_.randint(2, 3))
    ]
    choices = bytearray(POINTS)
    for _ in range(random_.randint(1, 5)):
        choices[random_.randrange(POINTS)] = random_.randint(1, 3)
    return parts, bytes(choices)


@pytest.fixture
def scripted(probe: ModuleType) -> Iterator[ModuleType]:
    yield probe
    probe.follow_none()


@pytest.mark.clocks
@pytest.mark.parametrize("name", SCENES)
def test_no_order_of_turns_lets_time_go_back(
    scripted: ModuleType, name: str, evidence: Callable[..., None]
) -> None:
    random_ = random.Random(f"{SEED} {name}")
    voids, dropped = scripted.collisions()
    readings = died = 0
    for _ in range(RUNS):
        parts, choices = drawn(random_)
        ran = run(scripted, SCENES[name], parts, choices, deaths=random_.randint(0, 1))
        assert 0 == ran.back, (parts, list(choices), ran.readings)
        readings += len(ran.readings)
        died += len(ran.readings) < sum(map(len, parts))
    voids, dropped = (
        now - before for now, before in zip(scripted.collisions(), (voids, dropped), strict=True)
    )
    evidence(runs=RUNS, readings=readings, with_a_death=died, samples_voided=voids, swaps_too_late=dropped)
    assert min(died, voids, dropped) > RUNS // 100


@pytest.mark.clocks
@pytest.mark.parametrize("name", SCENES)
def test_every_order_of_two_readers(scripted: ModuleType, name: str, evidence: Callable[..., None]) -> None:
    """All of them with so many preemptions, of which one lets 10 ms pass."""
    scene, parts, runs = SCENES[name], [[0], [10 * MS, 0]], 0
    choices: list[int] = []
    while True:
        scene.lay(scripted)
        ran = Run(*scripted.play_readings(parts, bytes(choices), PREEMPTIONS))
        assert 0 == ran.back, (choices, ran.readings)
        runs += 1
        choices += [0] * (len(ran.options) - len(choices))
        while choices and choices[-1] + 1 == ran.options[len(choices) - 1]:
            choices.pop()
        if not choices:
            break
        choices[-1] += 1
    evidence(runs=runs, preemptions=PREEMPTIONS)
    assert runs > 100


@pytest.mark.clocks
def test_a_publication_that_does_not_look_is_found_out(scripted: ModuleType) -> None:
    """Control: a setter publishes whatever was told since its sample."""
    random_ = random.Random(f"{SEED}")
    worst = max(
        run(scripted, SCENES["a counter that slows down"], *drawn(random_), careless=True).back
        for _ in range(1_000)
    )
    print(f"back by up to {worst} ns")
    assert worst > 0
