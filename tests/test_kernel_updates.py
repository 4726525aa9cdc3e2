"""The compiled kernel under every order of turns, continued: several charges at once, and limits that change.

`test_kernel_turns.py` says how.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from kernel_probe import SECOND, WINDOW, Played, Table, play
from scenes import MORE, Make, charge, each_claimed, load_then_store

from fastlimit import FixedWindow, LeakyBucket, SlidingLog, SlidingWindow, TokenBucket
from fastlimit.limits import Limit

pytestmark = pytest.mark.schedules

# --- several charges

OPPOSITE = [
    TokenBucket("1/h"),
    FixedWindow("1/day"),
    FixedWindow("1/day", anchor="first"),
    SlidingWindow("1/day"),
    SlidingLog("1/day"),
]


def opposite(probe: ModuleType, limit: Limit, name: str, preemptions: int) -> Played:
    """Two callers charge two limiters in opposite orders. Outcome: how many were allowed, what is left."""
    first = Table(probe, limit)
    second = Table(probe, limit, clock=first.clock)
    tables = (first, second)
    for table in tables:
        table.limiter.allow("k")
        table.limiter.refund("k")
    calls = [
        getattr(probe, name)(*((table.limiter, "k", 1) for table in order))
        for order in (tables, tables[::-1])
    ]
    return play(
        [[call] for call in calls],
        tables,
        lambda: (sum(call.allowed for call in calls), *(table.grants("k") for table in tables)),
        preemptions=preemptions,
    )


@pytest.mark.parametrize("limit", OPPOSITE, ids=str)
def test_charges_in_opposite_orders_leave_nothing_behind(probe: ModuleType, limit: Limit) -> None:
    """One is allowed, or none if each was in the other's way; what a refused one charged is given back."""
    assert {(1, 0, 0), (0, 1, 1)} == set(opposite(probe, limit, "charge", 3).outcomes)


@pytest.mark.parametrize("limit", OPPOSITE, ids=str)
def test_without_rolling_back_they_do(probe: ModuleType, limit: Limit) -> None:
    assert (0, 0, 0) in opposite(probe, limit, "charge_keeping", 2).outcomes


@pytest.mark.parametrize("limits", ["1/h; 2/h", "2/h; 1/h", "fixed-window 2/day; sliding-window 1/day"])
def test_several_limits_are_charged_together_or_not_at_all(probe: ModuleType, limits: str) -> None:
    table = Table(probe, limits)
    calls = [charge(table, "k") for _ in range(2)]
    played = play(
        [[call] for call in calls],
        [table],
        lambda: (
            sum(call.allowed for call in calls),
            *(probe.read(table.limiter, 0, i)[1] % 2**32 for i in range(2)),
        ),
        preemptions=2 + MORE,
    )
    assert {(1, 1, 1)} == set(played.outcomes)
    assert played.lost > 100


# --- a limit that changes


def change(table: Table, make: Make, limits: list[Limit], preemptions: int) -> Played:
    """A charge of 1, on a debt of 2, while the limit changes. Outcome: if allowed, the debt, the version."""
    table.limiter.acquire("k", 2)
    call = make(table, "k")
    updates = [table.probe.update(table.limiter, limit) for limit in limits]
    capacity = limits[-1].parameters().capacity
    return play(
        [[call], updates],
        [table],
        lambda: (call.allowed, capacity - table.limiter.peek("k").remaining, table[0].version),
        preemptions=preemptions,
        watched_slots=1,
    )


FASTER: dict[Limit, Limit] = {
    TokenBucket("4/s"): TokenBucket("5/s", burst=8),
    LeakyBucket("4/s"): LeakyBucket("8/s"),
    FixedWindow("4/s"): FixedWindow("8/minute"),
    FixedWindow("4/s", anchor="first"): FixedWindow("8/minute", anchor="first"),
    SlidingWindow("4/s"): SlidingWindow("8/minute"),
    SlidingLog("4/s"): SlidingLog("3/s"),
}


@pytest.mark.parametrize("limit", FASTER, ids=str)
@pytest.mark.parametrize("updates", [1, 2, 3])
def test_a_charge_is_kept_by_updates_that_it_meets(probe: ModuleType, limit: Limit, updates: int) -> None:
    limits = [FASTER[limit], limit, FASTER[limit]]
    played = change(Table(probe, limit), charge, limits[:updates], 2 + MORE)
    assert {(1, 3, updates)} == set(played.outcomes)


@pytest.mark.parametrize("limit", FASTER, ids=str)
def test_it_is_kept_even_if_the_version_wraps_meanwhile(probe: ModuleType, limit: Limit) -> None:
    """A word may then be what it was, and be left in an older version, but with the right debt."""
    played = change(Table(probe, limit), charge, [FASTER[limit], limit] * 3, 2 + MORE)
    assert {(1, 3)} == {outcome[:2] for outcome in played.outcomes}


@pytest.mark.parametrize("limit", FASTER, ids=str)
def test_without_a_swap_it_is_lost_to_an_update(probe: ModuleType, limit: Limit) -> None:
    outcomes = set(change(Table(probe, limit), load_then_store, [FASTER[limit]], 1).outcomes)
    assert {outcome for outcome in outcomes if outcome != (1, 3, 1) and outcome[0]}


def early(table: Table, limits: list[Limit], name: str) -> Played:
    """A charge that meets an update, whose parameters replace stricter ones. Outcome: as of `change`."""
    for limit in (*[limits[0]] * 3, limits[1]):
        table.limiter.update(limit)
    table.limiter.reset("k")
    table.limiter.acquire("k", 2)
    call, update = charge(table, "k"), getattr(table.probe, name)(table.limiter, limits[2])
    return play(
        [[call], [update]],
        [table],
        lambda: (call.allowed, limits[2].parameters().capacity - table.limiter.peek("k").remaining),
        preemptions=3 + MORE,
        watched_slots=1,
    )


THREE: list[list[Limit]] = [
    [TokenBucket("2/s"), TokenBucket("4/s"), TokenBucket("8/s")],
    [
        FixedWindow("2/s", anchor="first"),
        FixedWindow("4/s", anchor="first"),
        FixedWindow("8/s", anchor="first"),
    ],
]


@pytest.mark.parametrize("limits", THREE, ids=lambda limits: str(limits[0]))
def test_a_version_is_published_with_its_limit(probe: ModuleType, limits: list[Limit]) -> None:
    assert {(1, 3)} == set(early(Table(probe, limits[0]), limits, "update").outcomes)


@pytest.mark.parametrize("limits", THREE, ids=lambda limits: str(limits[0]))
def test_before_its_limit_it_is_an_old_one_s(probe: ModuleType, limits: list[Limit]) -> None:
    """Control."""
    assert {(1, 3)} < set(early(Table(probe, limits[0]), limits, "early_version").outcomes)


@pytest.mark.parametrize("limit", FASTER, ids=str)
def test_updates_that_die_in_their_sweeps_leave_debts_legible(probe: ModuleType, limit: Limit) -> None:
    """Five in a row, each once its version is out and before it has converted anything."""
    table = Table(probe, limit)
    table.limiter.acquire("k", 3)
    versions = 0
    probe.watch_slots(table.limiter, 1)
    for i in range(5):
        wanted = limit if i % 3 else FASTER[limit]
        versions += dies_once_published(table, probe.update(table.limiter, wanted))
    assert 5 == versions
    assert 1 == table.limiter.peek("k").remaining


def dies_once_published(table: Table, update: Any) -> bool:
    """Repeat an update, killed one access later each time, until its version is out."""
    memory = table.probe.memory(table.limiter)
    version = table.probe.version(table.limiter)
    for accesses in range(100):
        table.probe.restore(table.limiter, memory)
        table.probe.play([[update]], bytes([0] * accesses + [1]), 0, 1)
        if table.probe.version(table.limiter) != version:
            return True
    return False


@each_claimed
def test_a_claim_is_kept_by_updates_that_it_meets(probe: ModuleType, limit: Limit) -> None:
    table = Table(probe, limit)
    call = charge(table, "k")
    updates = [probe.update(table.limiter, limit) for _ in range(5)]
    played = play(
        [[call], updates],
        [table],
        lambda: (call.allowed, table.grants("k"), len(table.slots_of("k"))),
        preemptions=2 + MORE,
        watched_slots=2,
    )
    assert {(1, 0, 1)} == set(played.outcomes)


@pytest.mark.parametrize("kind", [FixedWindow, SlidingWindow])
def test_a_window_that_its_clock_left_behind_keeps_its_count_in_an_update(
    probe: ModuleType, kind: type[FixedWindow | SlidingWindow]
) -> None:
    table = Table(probe, kind("10/s"))
    table.limiter.acquire("k", 4)
    table.clock.advance_ns(1)
    table.clock.set_ns(table.clock.now_ns - 100 * SECOND)
    call, update = charge(table, "k"), probe.update(table.limiter, kind("10/minute"))
    played = play(
        [[call], [update]],
        [table],
        lambda: (call.allowed, table.limiter.peek("k").remaining),
        preemptions=2 + MORE,
        watched_slots=1,
    )
    assert {(1, 5)} == set(played.outcomes)


def test_a_cost_that_an_update_puts_out_of_reach_is_not_free(probe: ModuleType) -> None:
    """128 times an interval of 2^57 units is 2^64."""
    table = Table(probe, TokenBucket("128/s"))
    calls = [probe.charge((table.limiter, "k", 128)) for _ in range(2)]
    update = probe.update(table.limiter, TokenBucket("1/3653 days", burst=1))
    played = play(
        [[update], calls],
        [table],
        lambda: (*(call.allowed for call in calls), table.grants("k")),
        preemptions=2 + MORE,
        watched_slots=1,
    )
    assert {(1, 0, 0), (0, 0, 1)} == set(played.outcomes)


# --- what is reported, of one moment

SIX = {
    TokenBucket("3/s"): TokenBucket("3/s", burst=6),
    LeakyBucket("3/s"): LeakyBucket("3/s", capacity=6),
    FixedWindow("3/s"): FixedWindow("6/s"),
    FixedWindow("3/s", anchor="first"): FixedWindow("6/s", anchor="first"),
    SlidingWindow("3/s"): SlidingWindow("6/s"),
}
each_that_doubles = pytest.mark.parametrize("limit", SIX, ids=str)


def reports(table: Table, watched: Any, others: list[Any]) -> set[int]:
    """What a call says that remains, whenever the others are made."""
    played = play(
        [[watched.record()], others],
        [table],
        lambda: watched.recorded()[3],
        preemptions=3 + MORE,
        watched_slots=1,
        shared=["k"],
    )
    return set(played.outcomes)


@each_that_doubles
def test_a_debt_of_before_is_not_reported_under_a_limit_of_after(probe: ModuleType, limit: Limit) -> None:
    """2 of 3, all of 3, all of 6; never 2 of 6. Resetting a bucket leaves half of its word as it was."""
    table = Table(probe, limit)
    table.limiter.acquire("k", 2)
    changes = [probe.operate("reset", table.limiter, "k"), probe.update(table.limiter, SIX[limit])]
    assert {1, 3, 6} == reports(table, probe.operate("peek", table.limiter, "k"), changes)


@each_that_doubles
def test_nor_is_a_key_that_was_not_there_before(probe: ModuleType, limit: Limit) -> None:
    """All of 3, 2 of 3 gone, 2 of 6 gone; never all of 6."""
    table = Table(probe, limit)
    changes = [probe.charge((table.limiter, "k", 2)), probe.update(table.limiter, SIX[limit])]
    assert {3, 1, 4} == reports(table, probe.operate("peek", table.limiter, "k"), changes)


@each_that_doubles
def test_nor_a_shared_debt_of_after_under_a_limit_of_before(probe: ModuleType, limit: Limit) -> None:
    """The window is full: none of 3, none of 6, 2 of 6; never 2 of 3."""
    table = Table(probe, limit)
    for i in range(WINDOW):
        table.limiter.acquire(f"filler {i}", 2)
    changes = [probe.update(table.limiter, SIX[limit]), probe.charge((table.limiter, "k", 2))]
    assert {3, 6, 4} == reports(table, probe.operate("refund", table.limiter, "k"), changes)
