"""The kernel's arithmetic of time at the edges of its integers, against Python's, which have none.

A value is drawn where something ends: powers of two, 0, the last of a type, an edge of a window or of a
limit's own time, and a little around each. What is drawn together can occur together: an instant is one that
a state may hold, after a clock that was anywhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from types import ModuleType
from typing import Any

import pytest
from clock_limits import ALGORITHMS, some_limit
from mutants import Mutant, planted, twin
from scale import SEED, by_mode

from fastlimit import TokenBucket, reference
from fastlimit.algorithms import fixed_window
from fastlimit.limits import CENTURY, Limit

LAST_NS = 2**63 - 1
PAST_NS = 2**57
LAST_UNIT = 3 * 2**58 - 1
LAST_U64 = 2**64 - 1

ROUNDS = by_mode(20, 500, 5_000)
"""Limits of each algorithm; of each, PLACES places in time."""
PLACES = 50


def near(random_: random.Random, edges: Sequence[int], least: int, most: int) -> int:
    """One of the edges, or a little beside it, or anywhere."""
    edge = random_.choice((*edges, least, most, random_.randint(least, most)))
    beside = random_.choice((0, 0, -1, 1, random_.randint(-1_000, 1_000)))
    return min(max(edge + beside, least), most)


def u64(random_: random.Random) -> int:
    return near(random_, [2 ** random_.randint(0, 63)], 0, LAST_U64)


def saturated(value: int) -> int:
    return min(value, LAST_U64)


@pytest.mark.clocks
def test_products_and_ratios(probe: ModuleType, evidence: Callable[..., None]) -> None:
    random_ = random.Random(f"{SEED} products")
    saturations = 0
    for _ in range(ROUNDS * PLACES):
        a, b, c, d = (u64(random_) for _ in range(4))
        assert a * b >> 64 == probe.high_product(a, b)
        assert (a * b > c * d) == probe.product_above(a, b, c, d)
        c = max(c, 1)
        assert saturated(a * b // c) == probe.ratio_down(a, b, c)
        assert saturated(-(-a * b // c)) == probe.ratio_up(a, b, c)
        assert saturated(-(-(a << 64) // c)) == probe.shifted_ratio_up(a, c)
        saturations += a * b // c > LAST_U64
    evidence(rounds=ROUNDS * PLACES, saturations=saturations)
    assert saturations > ROUNDS


@pytest.mark.clocks
def test_seconds_are_the_smallest_float_that_is_enough(probe: ModuleType) -> None:
    random_ = random.Random(f"{SEED} seconds")
    for _ in range(ROUNDS * PLACES):
        ns = near(random_, [2 ** random_.randint(0, 62)], 0, LAST_NS)
        assert reference.seconds(ns) == probe.seconds_up(ns)
        assert Fraction(probe.seconds_up(ns)) >= Fraction(ns, 10**9)


class Place:
    """A limit, when its table was first used, where the clock is now, and an instant to wait for."""

    def __init__(self, limit: Limit, random_: random.Random) -> None:
        self.limit, self.parameters = limit, limit.parameters()
        first = near(random_, [PAST_NS, LAST_NS - PAST_NS], 0, LAST_NS)
        self.base = first - PAST_NS
        table = self.table(reference)
        reach = -(-LAST_UNIT * 2**64 // (self.parameters.multiplier or 2**64))
        self.end = LAST_NS if self.parameters.epoch else min(self.base + reach, LAST_NS)
        edges = [first, self.base, self.end, 2**57, 2**62]
        edges += [self.edge(table, near(random_, edges, 0, LAST_NS)) for _ in range(3)]
        self.now = near(random_, edges, 0, self.end)
        furthest = table.units(near(random_, [self.now, self.end], 0, self.end))
        longest = 2 * max(self.parameters.window, CENTURY) if self.parameters.epoch else 2 * 2**57
        latest = min(furthest + longest, LAST_U64)
        self.instant = near(random_, [table.units(self.now), furthest], 0, latest)

    def table(self, model: ModuleType) -> Any:
        table = model.Table(self.limit, None)
        table.base_ns = self.base
        return table

    def edge(self, table: Any, now: int) -> int:
        """The ns at which now's window begins."""
        if not self.parameters.epoch:
            return now
        index = fixed_window.index_of(table.units(now), self.parameters)
        return fixed_window.start_of(index, self.parameters) - self.parameters.offset


def check_place(probe: ModuleType, place: Place, model: ModuleType = reference) -> None:
    table, parameters = place.table(model), place.parameters
    for now in (place.now, min(place.end + 1, LAST_NS)):
        assert (table.units(now), place.base) == probe.to_units(parameters, now, place.base, True)[:2]
    units = table.units(place.now)
    wait = probe.to_ns(parameters, place.instant, units, place.now, place.base)
    assert table.wait_ns(place.instant, place.now) == wait
    if parameters.epoch:
        index = fixed_window.index_of(units, parameters)
        starts = [fixed_window.start_of(number, parameters) for number in (index, index + 1)]
        assert (index, *starts) == probe.window_of(parameters, units)


@pytest.mark.clocks
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_units_and_waits(probe: ModuleType, algorithm: str, evidence: Callable[..., None]) -> None:
    random_ = random.Random(f"{SEED} {algorithm}")
    before_base = longest = scaled = 0
    for _ in range(ROUNDS):
        limit = some_limit(algorithm, random_)
        for _ in range(PLACES):
            place = Place(limit, random_)
            check_place(probe, place)
            before_base += place.now < place.base
            longest += place.table(reference).wait_ns(place.instant, place.now) == LAST_NS
            scaled += place.parameters.multiplier > 0
    evidence(places=ROUNDS * PLACES, before_base=before_base, longest_waits=longest, scaled=scaled)
    assert before_base > 0


@pytest.mark.clocks
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_a_first_use_sets_the_base_and_how_far_a_clock_may_go(probe: ModuleType, algorithm: str) -> None:
    random_ = random.Random(f"{SEED} {algorithm} first")
    for _ in range(ROUNDS * 10):
        parameters = some_limit(algorithm, random_).parameters()
        now = near(random_, [PAST_NS, 2**62], 0, LAST_NS)
        units, base, latest = probe.to_units(parameters, now, -(2**63), True)
        if parameters.epoch:
            assert (now + parameters.offset, -(2**63), LAST_NS) == (units, base, latest)
            continue
        reach = -(-LAST_UNIT * 2**64 // (parameters.multiplier or 2**64))
        assert (now - PAST_NS, min(now - PAST_NS + reach, LAST_NS)) == (base, latest)
        assert PAST_NS * (parameters.multiplier or 2**64) >> 64 == units


@pytest.mark.clocks
@pytest.mark.parametrize("days", [177, 178, 180, 181])
def test_a_reach_beyond_all_readings_ends_before_them_from_1970(probe: ModuleType, days: int) -> None:
    """A base is years before the first use: there, what is left of the longest reach is less than 2^63."""
    parameters = TokenBucket(f"1/{days}days", burst=100).parameters()
    reach = -(-LAST_UNIT * 2**64 // parameters.multiplier)
    assert (days < 178, days < 181) == (reach < LAST_NS, reach - PAST_NS < LAST_NS)
    assert min(reach - PAST_NS, LAST_NS) == probe.to_units(parameters, 0, -(2**63), True)[2]


@pytest.mark.clocks
def test_wall_time_is_the_clock_s_and_its_offset(probe: ModuleType) -> None:
    random_ = random.Random(f"{SEED} wall")
    for _ in range(ROUNDS):
        parameters = some_limit("FIXED_WINDOW", random_).parameters()
        now = near(random_, [10**14], 0, 2**61)
        offset = near(random_, [17 * 10**17], -now, 2**62)
        probe.edit_clock(wall_offset=offset)
        units, _, _ = probe.to_units(parameters, now, 0, False)
        assert now + offset + parameters.offset == units


def assert_found(check: Callable[[], None]) -> None:
    for _ in range(20_000):
        try:
            check()
        except AssertionError:
            return
    raise AssertionError("not found in 20,000 places")


SLIPS = [
    Mutant("time goes on after its end", None, "LAST_UNIT = 3 * 2**58 - 1", "LAST_UNIT = 3 * 2**58"),
    Mutant("negative time", None, "max(now_ns - self.base(now_ns), 0)", "(now_ns - self.base(now_ns))"),
    Mutant("a wait rounded down", None, "- (-instant * 2**64 //", "+ (instant * 2**64 //"),
    Mutant("a wait without end", None, "min(wanted_ns - now_ns, LONGEST_NS)", "wanted_ns - now_ns"),
    Mutant("a multiplier cut to 63 bits", None, "elapsed * (self.parameters.multiplier or 2**64) >> 64",
           "elapsed * ((self.parameters.multiplier or 2**64) // 2 * 2) >> 64"),
]  # fmt: skip


@pytest.mark.clocks
@pytest.mark.parametrize("slip", SLIPS, ids=lambda slip: slip.what)
def test_a_planted_slip_shows_at_an_edge(probe: ModuleType, slip: Mutant) -> None:
    model, random_ = planted(slip), random.Random(f"{SEED} slips")
    assert_found(
        lambda: check_place(probe, Place(some_limit(random_.choice(ALGORITHMS), random_), random_), model)
    )


@pytest.mark.clocks
def test_a_month_that_begins_a_day_late_shows(probe: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    late = twin(fixed_window, "year // 4 - year // 100", "year // 4")
    random_ = random.Random(f"{SEED} months")
    monkeypatch.setattr(fixed_window, "days_before_month", late.days_before_month)
    assert_found(lambda: check_place(probe, Place(some_limit("FIXED_WINDOW", random_), random_)))
