"""The table: which slots are free, what a full window does, and a limit that changes under live slots."""

from __future__ import annotations

from types import ModuleType
from typing import Literal

import pytest
from kernel_probe import BIRTH, SECOND, START_S, UNUSED, WINDOW, Table, claim, live, nobody

from fastlimit import FixedWindow, LeakyBucket, SlidingLog, SlidingWindow, TokenBucket
from fastlimit.limits import Limit

BUCKETS: list[Limit] = [TokenBucket("3/s"), LeakyBucket("3/s")]
WINDOWS: list[Limit] = [FixedWindow("3/s"), FixedWindow("3/s", anchor="first"), SlidingWindow("3/s")]
LIMITS = [*BUCKETS, *WINDOWS, SlidingLog("3/s")]
CAPACITY = 3
VERSIONS = 4

each_limit = pytest.mark.parametrize("limit", LIMITS, ids=str)


def fill(table: Table) -> list[str]:
    """Keys that owe, one in each slot of the window."""
    keys = [f"filler {i}" for i in range(WINDOW)]
    assert bytes([1] * WINDOW) == table.limiter.allow_many(keys)
    return keys


# --- what is free


@pytest.mark.parametrize("limit", BUCKETS, ids=str)
def test_a_bucket_s_next_key_inherits_the_count(probe: ModuleType, limit: Limit) -> None:
    table = Table(probe, limit)
    table.limiter.acquire("k", 2)
    table.clock.advance_ns(SECOND)
    table.limiter.acquire("other", 3)
    assert ([0], 5) == (table.slots_of("other"), table[0].admitted)


@pytest.mark.parametrize("limit", WINDOWS, ids=str)
def test_a_window_s_next_key_counts_from_0(probe: ModuleType, limit: Limit) -> None:
    table = Table(probe, limit)
    table.limiter.acquire("k", 2)
    table.clock.advance_ns(2 * SECOND)
    table.limiter.acquire("other", 3)
    assert ([0], 3) == (table.slots_of("other"), table[0].admitted)


def test_an_inherited_count_wraps_at_32_bits(probe: ModuleType) -> None:
    table = Table(probe, "1/s burst 3")
    table.lay([live(table.key("old"), BIRTH, 2**32 - 1)])
    assert CAPACITY == table.grants("k")
    assert ([0], 2) == (table.slots_of("k"), table[0].admitted)


@pytest.mark.parametrize(
    ("limit", "fresh_after_ns"),
    [
        ("1/s burst 1", SECOND),
        ("leaky-bucket 1/s capacity 1", SECOND),
        ("fixed-window 1/s", SECOND),
        (FixedWindow("1/s", anchor="first"), SECOND),
        ("sliding-window 1/s", 2 * SECOND),
    ],
    ids=str,
)
def test_a_slot_is_free_from_the_tick_at_which_its_key_is_fresh(
    probe: ModuleType, limit: str | Limit, fresh_after_ns: int
) -> None:
    table = Table(probe, limit)
    assert fresh_after_ns == table.limiter.acquire("old").reset_after_ns
    table.clock.advance_ns(fresh_after_ns - 1)
    assert table.limiter.allow("early")
    table.clock.advance_ns(1)
    assert table.limiter.allow("late")
    assert ([1], [0], []) == tuple(map(table.slots_of, ("early", "late", "old")))


@each_limit
def test_a_slot_that_owes_is_never_taken(probe: ModuleType, limit: Limit) -> None:
    table = Table(probe, limit)
    fill(table)
    before = table.cells()
    table.limiter.allow_many([f"newcomer {i}" for i in range(5_000)])
    assert before == table.cells()


def test_keys_come_and_go_without_end_in_the_same_slots(probe: ModuleType) -> None:
    table = Table(probe, "3/s")
    for round in range(200):
        keys = [f"{round} {i}" for i in range(WINDOW)]
        assert bytes([1] * WINDOW) == table.limiter.allow_many(keys)
        table.clock.advance_ns(SECOND)
    assert 0 == table.limiter.stats().full_events
    assert [200] * WINDOW == [cell.admitted for cell in table.cells()[:WINDOW]]
    assert [UNUSED] * 2 == table.cells()[WINDOW:]


# --- a full window, by policy


@each_limit
def test_sharers_of_an_overflow_bucket_have_one_bucket_between_them(probe: ModuleType, limit: Limit) -> None:
    table = Table(probe, limit)
    fill(table)
    places = {f"newcomer {i}": table.overflow(f"newcomer {i}") for i in range(1_000)}
    granted = dict.fromkeys(places.values(), 0)
    for key, place in places.items():
        granted[place] += table.grants(key)
    assert dict.fromkeys(granted, CAPACITY) == granted
    assert 64 == len(granted)
    assert set(range(len(table), len(table) + 64)) == set(granted)
    assert len(places) + 64 * CAPACITY == table.limiter.stats().full_events


@each_limit
def test_a_sharer_that_finds_a_slot_starts_from_its_overflow_bucket(probe: ModuleType, limit: Limit) -> None:
    table = Table(probe, limit)
    keys = fill(table)
    assert table.limiter.acquire("newcomer", 2)
    shared = table[table.overflow("newcomer")]
    table.limiter.reset(keys[7])
    assert CAPACITY - 2 == table.grants("newcomer")
    assert [7] == table.slots_of("newcomer")
    assert shared == table[table.overflow("newcomer")]


def test_a_sharer_of_an_exhausted_bucket_takes_no_slot(probe: ModuleType) -> None:
    table = Table(probe, "3/s")
    keys = fill(table)
    assert CAPACITY == table.grants("newcomer")
    table.limiter.reset(keys[0])
    assert 0 == table.grants("newcomer")
    assert [0] == table.slots_of(keys[0])


def test_giving_back_to_a_shared_bucket_does_nothing_and_is_counted(probe: ModuleType) -> None:
    table = Table(probe, "3/s")
    fill(table)
    assert table.limiter.acquire("newcomer", 2)
    shared = table[table.overflow("newcomer")]
    assert 1 == table.limiter.refund("newcomer", 2).remaining
    table.limiter.reset("newcomer")
    assert shared == table[table.overflow("newcomer")]
    assert 2 == table.limiter.stats().lost_on_full


@each_limit
def test_a_newcomer_denied_is_told_when_the_first_slot_comes_free(probe: ModuleType, limit: Limit) -> None:
    table = Table(probe, limit, when_full="deny")
    for i in range(WINDOW):
        assert table.limiter.allow(f"filler {(i * 29) % WINDOW}")
        table.clock.advance_ns(SECOND // 1_000)
    waits = {table.limiter.peek(f"filler {i}").reset_after_ns for i in range(WINDOW)}
    denied = table.limiter.acquire("newcomer")
    assert (False, 0, min(waits)) == (denied.allowed, denied.remaining, denied.retry_after_ns)
    table.clock.advance_ns(denied.retry_after_ns - 1)
    assert 1 == table.limiter.acquire("newcomer").retry_after_ns
    table.clock.advance_ns(1)
    assert table.limiter.allow("newcomer")
    assert 2 == table.limiter.stats().full_events


def test_a_newcomer_allowed_is_told_of_a_full_bucket(probe: ModuleType) -> None:
    table = Table(probe, "3/s", when_full="allow")
    fill(table)
    decisions = {table.limiter.acquire("newcomer", 2) for _ in range(10)}
    [only] = decisions
    assert (True, CAPACITY, 0, 0) == (
        only.allowed,
        only.remaining,
        only.retry_after_ns,
        only.reset_after_ns,
    )
    assert 10 == table.limiter.stats().full_events


@pytest.mark.parametrize(("when_full", "allowed"), [("share", True), ("deny", False), ("allow", True)])
def test_a_look_at_a_full_window_changes_and_counts_nothing(
    probe: ModuleType, when_full: Literal["share", "deny", "allow"], allowed: bool
) -> None:
    table = Table(probe, "3/s", when_full=when_full)
    fill(table)
    before = probe.memory(table.limiter)
    assert allowed == table.limiter.peek("newcomer").allowed
    assert table.limiter.peek("newcomer", 0).allowed
    assert before == probe.memory(table.limiter)


# --- a limit that changes


def test_an_update_brings_every_word_to_the_new_limit(probe: ModuleType) -> None:
    table = Table(probe, "1/s burst 4")
    fill(table)
    table.limiter.acquire("filler 5", 3)
    table.limiter.acquire("newcomer", 2)
    table.limiter.update("2/s burst 8")
    debts = [8 if i == 5 else 2 for i in range(WINDOW)]
    assert [BIRTH + debt * SECOND // 4 for debt in debts] == [table[i].body for i in range(WINDOW)]
    assert BIRTH + 2 * SECOND // 2 == table[table.overflow("newcomer")].body
    in_use = [i for i in range(len(table) + 64) if table[i] != UNUSED]
    assert {1} == {table[i].version for i in in_use}
    assert WINDOW + 64 == len(in_use)


@each_limit
def test_updates_keep_debts_however_often_the_version_wraps(probe: ModuleType, limit: Limit) -> None:
    table = Table(probe, limit)
    other = type(limit)("4/s", anchor=limit.anchor) if isinstance(limit, FixedWindow) else type(limit)("4/s")
    table.limiter.acquire("k", 2)
    versions = []
    for i in range(2 * VERSIONS + 1):
        table.limiter.update(limit if i % 2 else other)
        versions.append(table[0].version)
    assert [1, 2, 3, 0, 1, 2, 3, 0, 1] == versions
    assert 2 == table.limiter.peek("k").remaining
    table.limiter.update(limit)
    assert CAPACITY - 2 == table.grants("k")


def test_an_update_kills_pending_claims(probe: ModuleType) -> None:
    table = Table(probe, "1/s burst 3")
    word = table.take("k", 0)
    table.limiter.update("1/s burst 5")
    assert nobody(table.key("k").tag, 2) == table[0]
    assert "lost" == table.confirm("k", 0, word)
    assert 5 == table.grants("k")


def test_a_claim_made_after_an_update_is_of_its_version(probe: ModuleType) -> None:
    table = Table(probe, "1/s burst 3")
    table.limiter.update("1/s burst 5")
    table.lay([claim(table.key("k"), 1)])
    assert 5 == table.grants("k")
    assert (1, [0]) == (table[0].version, table.slots_of("k"))


def test_a_word_of_an_older_version_is_converted_by_its_next_charge(probe: ModuleType) -> None:
    """As a claim leaves it that was confirmed by an old reading while a sweep went by."""
    table = Table(probe, "1/s burst 4")
    table.limiter.update("2/s burst 8")
    table.lay([live(table.key("k"), BIRTH + 2 * SECOND, 2, version=0)])
    assert table.limiter.allow("k")
    assert live(table.key("k"), BIRTH + 3 * SECOND // 2, 3, version=1) == table[0]


def test_a_window_s_new_length_starts_a_window_with_the_same_count(probe: ModuleType) -> None:
    table = Table(probe, "fixed-window 10/s")
    table.limiter.acquire("k", 4)
    table.limiter.update("fixed-window 10/minute")
    assert live(table.key("k"), START_S // 60 << 32, 4, version=1) == table[0]
