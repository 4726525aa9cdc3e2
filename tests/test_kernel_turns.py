"""The compiled kernel under every order of turns: a model check of the code, up to a number of preemptions.

Callers run as coroutines that can change places at each atomic access, and one may die there
(`probe/stage.h` says how). A scene sets up a table, plays it, and returns all that came of it; a test says
what may. Its control plays the scene without one precaution, and must then meet what must never be. What is
explored is sequentially consistent: weak memory order is another matter.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from kernel_probe import SECOND, WINDOW, Played, Table, nobody, play
from scale import by_mode

from fastlimit import FixedWindow, LeakyBucket, SlidingLog, SlidingWindow, TokenBucket
from fastlimit.limits import Limit

pytestmark = pytest.mark.proof

MORE = by_mode(0, 0, full=1)
"""Preemptions on top of the usual; each makes a scene about twenty times as long."""

LIMITS: list[Limit] = [
    TokenBucket("2/s"),
    LeakyBucket("2/s"),
    FixedWindow("2/s"),
    FixedWindow("2/s", anchor="first"),
    SlidingWindow("2/s"),
    SlidingLog("2/s"),
]
each_limit = pytest.mark.parametrize("limit", LIMITS, ids=str)
each_claimed = pytest.mark.parametrize(
    "limit", [TokenBucket("1/s"), FixedWindow("1/s", anchor="first")], ids=str
)

Make = Callable[[Table, str], Any]


def charge(table: Table, key: str) -> Any:
    return table.probe.charge((table.limiter, key, 1))


def load_then_store(table: Table, key: str) -> Any:
    return table.probe.load_then_store(table.limiter, key)


def claim_without(precaution: str) -> Make:
    return lambda table, key: table.probe.careless_claim(precaution, table.limiter, key)


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
