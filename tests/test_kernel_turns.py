"""The compiled kernel under every order of turns: a model check of the code, up to a number of preemptions.

Callers run as coroutines that can change places at each atomic access, and one may die there
(`probe/stage.h` says how). A scene sets up a table, plays it, and returns all that came of it; a test says
what may. Its control plays the scene without one precaution, and must then meet what must never be. What is
explored is sequentially consistent: weak memory order is another matter.
"""

from __future__ import annotations

from types import ModuleType

import pytest
from kernel_probe import SECOND, WINDOW, Played, Table, nobody, play
from scenes import (
    LIMITS,
    MORE,
    Make,
    charge,
    claim_without,
    each_claimed,
    each_limit,
    hasty_refusal,
    load_then_store,
)

from fastlimit import FixedWindow
from fastlimit.limits import Limit

pytestmark = pytest.mark.schedules

# --- charges


def last_unit(table: Table, make: Make, preemptions: int) -> Played:
    """Two callers, room for one. Outcome: how many it was granted to."""
    table.limiter.allow("k")
    calls = [make(table, "k") for _ in range(2)]
    return play(
        [[call] for call in calls],
        [table],
        lambda: sum(call.allowed for call in calls),
        preemptions=preemptions,
    )


@each_limit
def test_the_last_unit_is_granted_once(probe: ModuleType, limit: Limit) -> None:
    played = last_unit(Table(probe, limit), charge, 3 + MORE)
    assert {1} == set(played.outcomes)
    assert played.lost > 100


@each_limit
def test_without_a_swap_it_is_granted_twice(probe: ModuleType, limit: Limit) -> None:
    assert 2 in last_unit(Table(probe, limit), load_then_store, 1).outcomes


def give_and_take(table: Table, make: Make, preemptions: int) -> Played:
    """A charge, a refund and a debit. Outcome: what the bucket admitted, and what is left."""
    table.limiter.acquire("k", 2)
    change = [table.probe.operate(name, table.limiter, "k", 1) for name in ("refund", "debit")]
    return play(
        [[make(table, "k")], *([one] for one in change)],
        [table],
        lambda: (table[0].admitted, table.limiter.peek("k").remaining),
        preemptions=preemptions,
    )


def test_refunds_and_debits_lose_nothing(probe: ModuleType) -> None:
    assert {(3, 1)} == set(give_and_take(Table(probe, "1/s burst 4"), charge, 2 + MORE).outcomes)


def test_without_a_swap_they_do(probe: ModuleType) -> None:
    outcomes = give_and_take(Table(probe, "1/s burst 4"), load_then_store, 1).outcomes
    assert {(2, 2), (4, 0)} <= set(outcomes)


# --- torn pairs


def torn(table: Table, make: Make, preemptions: int) -> Played:
    """The key used up an old window; two callers, room for both in the new one. Outcome: what each was told.

    The old count with the new window, which no word ever held, would be a full one.
    """
    table.limiter.acquire("k", 2)
    table.clock.advance_ns(3 * SECOND)
    calls = [make(table, "k"), charge(table, "k"), table.probe.operate("peek", table.limiter, "k")]
    return play(
        [[calls[0]], [calls[1]], [calls[2]]],
        [table],
        lambda: (calls[0].allowed, calls[1].allowed),
        preemptions=preemptions,
        watched_slots=1,
    )


each_window = pytest.mark.parametrize("limit", LIMITS[2:5], ids=str)


@each_window
def test_a_torn_pair_refuses_nobody(probe: ModuleType, limit: Limit) -> None:
    assert {(1, 1)} == set(torn(Table(probe, limit), charge, 3 + MORE).outcomes)


@each_window
def test_without_a_second_look_it_does(probe: ModuleType, limit: Limit) -> None:
    assert (0, 1) in torn(Table(probe, limit), hasty_refusal, 2).outcomes


def peeks(table: Table, preemptions: int) -> Played:
    """As `torn`, but for a peek while one unit is charged. Outcome: whether it said that there was room."""
    table.limiter.acquire("k", 2)
    table.clock.advance_ns(3 * SECOND)
    peek = table.probe.operate("peek", table.limiter, "k")
    return play(
        [[peek], [charge(table, "k")]],
        [table],
        lambda: peek.allowed,
        preemptions=preemptions,
        watched_slots=1,
    )


@each_window
def test_a_torn_pair_is_reported_to_nobody(probe: ModuleType, limit: Limit) -> None:
    assert {1} == set(peeks(Table(probe, limit), 3 + MORE).outcomes)


# --- claims


def claims(table: Table, make: Make, preemptions: int, deaths: int = 0) -> Played:
    """Two callers claim a key while a slot in front comes free; later another caller follows.

    Outcome: whom it was granted to, and in how many slots the key is live.
    """
    table.limiter.allow("old")
    table.clock.advance_ns(SECOND // 2)
    calls = [make(table, "k") for _ in range(2)]
    return play(
        [[call] for call in calls] + [[table.probe.advance(table.clock, SECOND // 2)]],
        [table],
        lambda: (
            sum(call.allowed for call in calls),
            table.grants("k"),
            len(table.slots_of("k")),
        ),
        preemptions=preemptions,
        deaths=deaths,
    )


@each_claimed
def test_a_key_that_two_claim_gets_one_slot_and_one_grant(probe: ModuleType, limit: Limit) -> None:
    played = claims(Table(probe, limit), charge, 2 + MORE)
    assert {(1, 0, 1)} == set(played.outcomes)
    assert played.lost > 1_000


def test_the_control_s_own_claim_does_as_well_with_every_precaution(probe: ModuleType) -> None:
    assert {(1, 0, 1)} == set(claims(Table(probe, "1/s"), claim_without("none"), 2).outcomes)


@each_claimed
def test_without_a_look_for_rivals_it_gets_two(probe: ModuleType, limit: Limit) -> None:
    assert (2, 0, 2) in claims(Table(probe, limit), claim_without("rivals"), 1).outcomes


@each_claimed
def test_whoever_of_two_claimants_dies_the_next_caller_finishes(probe: ModuleType, limit: Limit) -> None:
    """At most the one grant is missing that the dead caller never heard of."""
    played = claims(Table(probe, limit), charge, 1 + MORE, deaths=1)
    assert {(1, 0, 1), (0, 0, 1)} == set(played.outcomes)


@pytest.mark.parametrize(
    "limit", ["3/s", "fixed-window 3/s", FixedWindow("3/s", anchor="first"), "sliding-window 3/s"], ids=str
)
def test_a_caller_who_dies_at_any_step_leaves_the_key_whole(probe: ModuleType, limit: str | Limit) -> None:
    table = Table(probe, limit)
    call = charge(table, "k")
    played = play(
        [[call]],
        [table],
        lambda: (
            call.allowed,
            *(table.grants(key) for key in ("other", "k")),
            tuple(table[i].admitted for i in table.slots_of("k")),
        ),
        deaths=1,
    )
    lived, died_before, died_after = (1, 3, 2, (3,)), (0, 3, 3, (3,)), (0, 3, 2, (3,))
    assert {lived, died_before, died_after} == set(played.outcomes)
    assert played.runs > 15


def late_claim(table: Table, make: Make, preemptions: int) -> Played:
    """A caller misses "k" and is held up; it comes, gets fresh, and goes. Outcome: grants in 1.5 s."""
    table.limiter.allow("old")
    table.clock.advance_ns(SECOND // 2)
    late, early, other = make(table, "k"), make(table, "k"), make(table, "other")
    time = [table.probe.advance(table.clock, ns) for ns in (SECOND // 2, SECOND)]
    return play(
        [[late], [time[0], early, time[1], other]],
        [table],
        lambda: late.allowed + early.allowed + table.grants("k"),
        preemptions=preemptions,
    )


@each_claimed
def test_a_late_claim_is_of_its_own_time(probe: ModuleType, limit: Limit) -> None:
    assert {2} == set(late_claim(Table(probe, limit), charge, 3).outcomes)


@each_claimed
def test_without_another_look_at_the_clock_it_grants_twice(probe: ModuleType, limit: Limit) -> None:
    assert 3 in late_claim(Table(probe, limit), claim_without("clock"), 1).outcomes


@each_claimed
def test_with_a_look_at_the_clock_before_the_one_for_rivals_it_still_does(
    probe: ModuleType, limit: Limit
) -> None:
    """But not before the third change of turn."""
    assert {2} == set(late_claim(Table(probe, limit), claim_without("late clock"), 2).outcomes)
    assert 3 in late_claim(Table(probe, limit), claim_without("late clock"), 3).outcomes


def last_slot(table: Table, make: Make, preemptions: int) -> Played:
    """Two keys, one free slot. Outcome: whom it was granted to, and in how many slots each key is live."""
    keys = [f"filler {i}" for i in range(WINDOW)]
    table.limiter.allow_many(keys)
    table.lay([nobody(tag=7, gen=5, count=3)])
    calls = [make(table, key) for key in ("a", "b")]
    return play(
        [[call] for call in calls],
        [table],
        lambda: tuple(
            (call.allowed, len(table.slots_of(key))) for call, key in zip(calls, "ab", strict=True)
        ),
        preemptions=preemptions,
        watched_slots=1,
    )


GOES_TO_ONE = {((1, 1), (0, 0)), ((0, 0), (1, 1))}


@each_claimed
def test_the_last_free_slot_goes_to_one_key(probe: ModuleType, limit: Limit) -> None:
    played = last_slot(Table(probe, limit, when_full="deny"), charge, 3 + MORE)
    assert GOES_TO_ONE == set(played.outcomes)
    assert played.lost > 100


def test_with_an_identity_that_can_go_back_it_is_lost_to_both(probe: ModuleType) -> None:
    table = Table(probe, "1/s", when_full="deny")
    assert {((1, 0), (0, 0)), ((0, 0), (1, 0))} <= set(last_slot(table, claim_without("serial"), 2).outcomes)


@each_limit
def test_the_last_free_slot_goes_to_both_callers_of_its_key(probe: ModuleType, limit: Limit) -> None:
    """A pair that is torn where the slot is claimed must not count as somebody's debt: nothing is full."""
    table = Table(probe, limit, when_full="deny")
    table.limiter.allow_many([f"filler {i}" for i in range(WINDOW)])
    table.limiter.reset("filler 0")
    calls = [charge(table, "k") for _ in range(2)]
    played = play(
        [[call] for call in calls],
        [table],
        lambda: tuple(call.allowed for call in calls),
        preemptions=3 + MORE,
        watched_slots=1,
    )
    assert {(1, 1)} == set(played.outcomes)


def reclaim(table: Table, make: Make, preemptions: int) -> Played:
    """A fresh key is charged while another takes its slot. Outcome: grants, all that was admitted, slots."""
    table.limiter.allow("a")
    table.clock.advance_ns(SECOND)
    calls = [make(table, "a"), charge(table, "b")]
    return play(
        [[call] for call in calls],
        [table],
        lambda: (
            sum(call.allowed for call in calls) + table.grants("a") + table.grants("b"),
            sum(cell.admitted for cell in table.cells()),
            len(table.slots_of("a")),
            len(table.slots_of("b")),
        ),
        preemptions=preemptions,
    )


def test_a_charge_never_lands_on_the_next_key_of_its_slot(probe: ModuleType) -> None:
    assert {(2, 3, 1, 1)} == set(reclaim(Table(probe, "1/s"), charge, 2 + MORE).outcomes)


def test_without_a_swap_it_does(probe: ModuleType) -> None:
    assert len(reclaim(Table(probe, "1/s"), load_then_store, 1).outcomes) > 1


def test_a_sharer_whose_slot_comes_free_meanwhile_has_two_buckets_at_most(probe: ModuleType) -> None:
    """The shared one and its own: a claim may miss what is just being charged to the first."""
    table = Table(probe, "1/s")
    table.limiter.allow_many([f"filler {i}" for i in range(WINDOW)])
    calls = [charge(table, "k") for _ in range(2)]
    played = play(
        [[call] for call in calls] + [[probe.operate("reset", table.limiter, "filler 0")]],
        [table],
        lambda: sum(call.allowed for call in calls),
        preemptions=2 + MORE,
        watched_slots=1,
    )
    assert {1, 2} == set(played.outcomes)
