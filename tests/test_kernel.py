"""The slot protocol, word by word: what each step writes, what a death leaves, how the next caller finishes.

The words that a test begins with are written by hand, from the layout's description. `test_kernel_turns.py`
has the same protocol under every order of turns.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import pytest
from kernel_probe import (
    BIRTH,
    SECOND,
    START_S,
    UNUSED,
    WINDOW,
    Cell,
    Key,
    Table,
    claim,
    live,
    nobody,
)

from fastlimit import FixedWindow

GEN_MODULUS = 2**28
CAPACITY = 3


# --- layout


def test_a_slot_is_32_bytes_and_two_share_a_cache_line(probe: ModuleType) -> None:
    assert 32 == probe.SLOT_BYTES
    assert 0 == probe.line_offset(Table(probe, "1/s").limiter)


def test_the_protocol_has_the_sizes_that_its_figures_were_measured_with(probe: ModuleType) -> None:
    assert (WINDOW, 64, 4) == (probe.WINDOW, probe.OVERFLOW_SLOTS, probe.VERSIONS)


def test_a_table_has_two_slots_a_line_at_load_three_quarters_and_a_window_to_spare(probe: ModuleType) -> None:
    table = Table(probe, "1/s", max_keys=1_200)
    homes = {probe.home(table.limiter, f"key {i}") for i in range(20_000)}
    assert 1_600 + WINDOW == len(table)
    assert set(range(0, 1_600, 2)) == homes


@pytest.mark.parametrize("limit", ["1/s burst 3", "leaky-bucket 1/s capacity 3"])
def test_a_bucket_s_word_is_when_it_will_be_full_and_what_it_admitted(probe: ModuleType, limit: str) -> None:
    table = Table(probe, limit)
    table.limiter.acquire("k", 2)
    assert live(table.key("k"), BIRTH + 2 * SECOND, 2) == table[0]
    table.clock.advance_ns(5 * SECOND)
    table.limiter.acquire("k", 3)
    assert live(table.key("k"), BIRTH + 8 * SECOND, 5) == table[0]


def test_a_window_s_word_is_its_index_and_two_counts(probe: ModuleType) -> None:
    table = Table(probe, "sliding-window 5/s")
    table.limiter.acquire("k", 3)
    assert live(table.key("k"), START_S % 2**28 << 32, 3) == table[0]
    table.clock.advance_ns(SECOND)
    table.limiter.acquire("k", 2)
    assert live(table.key("k"), (START_S + 1) % 2**28 << 32 | 3, 2) == table[0]


def test_a_window_from_the_first_hit_is_its_start_and_its_count(probe: ModuleType) -> None:
    table = Table(probe, FixedWindow("5/s", anchor="first"))
    table.limiter.peek("k")
    table.clock.advance_ns(7)
    table.limiter.acquire("k", 3)
    assert live(table.key("k"), BIRTH + 7, 3) == table[0]


def test_refusals_are_counted_beside_the_word_until_the_slot_goes_to_another_key(probe: ModuleType) -> None:
    table = Table(probe, "1/s")
    assert [True, False, False, False] == [table.limiter.allow("k") for _ in range(4)]
    assert 3 == table[0].denied
    table.clock.advance_ns(SECOND)
    table.limiter.allow("other")
    assert ([0], 0) == (table.slots_of("other"), table[0].denied)


# --- deaths: what each leaves, and the next caller


def owing(table: Table, number: int) -> Cell:
    """A bucket that owes for an hour."""
    return live(table.key(f"owing {number}"), BIRTH + 3_600 * SECOND, 9, gen=4)


def full_but(table: Table, at: int, cell: Cell) -> list[Cell]:
    return [cell if i == at else owing(table, i) for i in range(WINDOW)]


def settled(key: Key, gen: int) -> int:
    return key.ext << 32 | gen


class Death(NamedTuple):
    """What lies in the first slots when a caller charges "k"; where "k" is then, in which generation."""

    cells: Callable[[Table, Key, Key], list[Cell]]
    """Of a table, "k", and another key."""
    slot: int
    gen: int
    killed: int | None = None
    """The slot of a claim that the caller has to kill."""


DEATHS = {
    "claimed": Death(lambda t, k, other: [claim(k, 1)], 0, 1),
    "claimed over an older key": Death(
        lambda t, k, other: [claim(k, 6, 40, identity=settled(other, 5))], 0, 6
    ),
    "identity settled": Death(lambda t, k, other: [claim(k, 1, identity=settled(k, 1))], 0, 1),
    "claimed again after a settled one died": Death(
        lambda t, k, other: [claim(k, 7, identity=settled(other, 6))], 0, 7
    ),
    "claimed for another key": Death(lambda t, k, other: [claim(other, 1)], 1, 1),
    "claimed for another key, a fresh slot behind": Death(
        lambda t, k, other: [claim(other, 1), owing(t, 1), live(other, BIRTH, 4, gen=3)], 2, 4
    ),
    "claimed for another key, window full": Death(lambda t, k, other: full_but(t, 0, claim(other, 1)), 0, 2),
    "settled for another key, window full": Death(
        lambda t, k, other: full_but(t, WINDOW - 1, claim(other, 8, 5, identity=settled(other, 8))),
        WINDOW - 1,
        9,
    ),
    "killed": Death(lambda t, k, other: [nobody(k.tag, 2)], 1, 1),
    "killed, window full": Death(lambda t, k, other: full_but(t, 30, nobody(k.tag, 2, 5)), 30, 3),
    "claimed twice, rivals not looked for": Death(
        lambda t, k, other: [owing(t, 0), claim(k, 3, 7), owing(t, 2), claim(k, 1, 2)], 1, 3, killed=3
    ),
    "claimed twice, the later one settled": Death(
        lambda t, k, other: [claim(k, 2), owing(t, 1), claim(k, 1, identity=settled(k, 1))], 0, 2, killed=2
    ),
    "claimed in front of the live slot": Death(
        lambda t, k, other: [claim(k, 2), live(k, BIRTH, 11, gen=5)], 1, 5
    ),
}


@pytest.mark.parametrize("death", DEATHS.values(), ids=DEATHS.keys())
def test_the_next_caller_finishes_what_a_death_left(probe: ModuleType, death: Death) -> None:
    table = Table(probe, "1/s burst 3")
    k = table.key("k")
    cells = [*death.cells(table, k, table.key("other")), UNUSED, UNUSED]
    table.lay(cells)
    assert CAPACITY == table.grants("k")
    inherited = cells[death.slot].admitted
    cells[death.slot] = live(k, BIRTH + 3 * SECOND, inherited + 3, gen=death.gen)._replace(denied=1)
    if death.killed is not None:
        was = cells[death.killed]
        cells[death.killed] = nobody(k.tag, was.claimed_gen + 1, was.admitted, identity=was.identity)
    assert cells == [table[i] for i in range(len(cells))]


def test_a_death_after_the_charge_left_a_charge(probe: ModuleType) -> None:
    table = Table(probe, "1/s burst 3")
    table.lay([live(table.key("k"), BIRTH + SECOND, 1)])
    assert CAPACITY - 1 == table.grants("k")


def test_a_live_slot_that_names_another_key_is_not_the_key_s(probe: ModuleType) -> None:
    """Same tag, other ext: what a false match of the first 32 bits would look like."""
    table = Table(probe, "1/s burst 3")
    k = table.key("k")
    table.lay([live(k._replace(ext=k.ext ^ 1), BIRTH + 3 * SECOND, 3)])
    assert CAPACITY == table.grants("k")
    assert [1] == table.slots_of("k")


# --- rivals


def two_claims(table: Table) -> tuple[tuple[int, int], tuple[int, int]]:
    """One caller claimed slot 1; then slot 0 came free, and one who had not seen the claim took that."""
    table.limiter.allow("old")
    late = table.take("k", 1)
    table.clock.advance_ns(SECOND)
    early = table.take("k", 0)
    assert late is not None
    assert early is not None
    return early, late


@pytest.mark.parametrize("first", [0, 1])
def test_of_two_claims_the_earlier_slot_lives(probe: ModuleType, first: int) -> None:
    table = Table(probe, "1/s burst 3")
    claims = two_claims(table)
    outcomes = {slot: table.confirm("k", slot, claims[slot]) for slot in (first, 1 - first)}
    assert {0: "done", 1: "lost"} == outcomes
    assert [0] == table.slots_of("k")
    assert CAPACITY - 1 == table.grants("k")


def test_a_claim_that_was_killed_in_the_meantime_is_lost(probe: ModuleType) -> None:
    table = Table(probe, "1/s burst 3")
    early, late = two_claims(table)
    assert "done" == table.confirm("k", 0, early)
    assert nobody(table.key("k").tag, 2).word == table[1].word
    assert "lost" == table.confirm("k", 1, late)


def test_one_claim_confirmed_by_two_callers_is_charged_once(probe: ModuleType) -> None:
    table = Table(probe, "1/s burst 3")
    word = table.take("k", 0)
    assert ["done", "lost"] == [table.confirm("k", 0, word) for _ in range(2)]
    assert 1 == table[0].admitted


@pytest.mark.parametrize(
    ("limit", "count"), [("1/s burst 3", 2), ("fixed-window 3/s", 0), ("sliding-window 3/s", 0)]
)
def test_a_claim_keeps_the_count_of_a_bucket_for_its_next_key(
    probe: ModuleType, limit: str, count: int
) -> None:
    table = Table(probe, limit)
    table.limiter.acquire("old", 2)
    table.clock.advance_ns(2 * SECOND)
    assert claim(table.key("k"), 2, count).word == table.take("k", 0)


def test_a_slot_that_changed_since_it_was_read_is_not_taken(probe: ModuleType) -> None:
    table = Table(probe, "1/s burst 3")
    table.limiter.allow("old")
    table.clock.advance_ns(SECOND)
    word = table[0].word
    table.limiter.allow("old")
    assert table.take("k", 0, word) is None
    assert [0] == table.slots_of("old")


# --- generations


def test_a_slot_s_generation_grows_with_each_key(probe: ModuleType) -> None:
    table = Table(probe, "1/s")
    gens = []
    for i in range(10):
        assert table.limiter.allow(f"key {i}")
        gens.append(table[0].gen)
        table.clock.advance_ns(SECOND)
    assert list(range(1, 11)) == gens


def test_a_generation_wraps_at_28_bits(probe: ModuleType) -> None:
    table = Table(probe, "1/s")
    table.lay([live(table.key("old"), BIRTH, 1, gen=GEN_MODULUS - 2)])
    gens = []
    for i in range(4):
        assert table.limiter.allow(f"key {i}")
        gens.append(table[0].gen)
        table.clock.advance_ns(SECOND)
    assert [GEN_MODULUS - 1, 0, 1, 2] == gens


def test_a_kill_wraps_too(probe: ModuleType) -> None:
    table = Table(probe, "1/s")
    k = table.key("k")
    table.lay([claim(k, 5), claim(k, GEN_MODULUS - 1)])
    assert table.limiter.allow("k")
    assert nobody(k.tag, 0) == table[1]


HALF = GEN_MODULUS // 2


@pytest.mark.parametrize(
    ("older", "newer"),
    [(0, 1), (5, 5), (0, HALF - 2), (GEN_MODULUS - 1, 0), (GEN_MODULUS - 3, 4), (HALF, GEN_MODULUS - 2)],
)
def test_the_newer_generation_is_the_one_less_than_half_the_circle_ahead(
    probe: ModuleType, older: int, newer: int
) -> None:
    assert (newer, newer) == (probe.newer_gen(older, newer), probe.newer_gen(newer, older))


@pytest.mark.parametrize(("set_gen", "late_gen"), [(8, 6), (1, GEN_MODULUS - 1)])
def test_an_identity_never_goes_back(probe: ModuleType, set_gen: int, late_gen: int) -> None:
    table = Table(probe, "1/s")
    late = claim(table.key("late"), late_gen)
    table.lay([live(table.key("k"), BIRTH + SECOND, 1, gen=set_gen)])
    assert not probe.settle_identity(table.limiter, "late", 0, late.word)
    assert settled(table.key("k"), set_gen) == table[0].identity
    assert "lost" == table.confirm("late", 0, late.word)
    assert [0] == table.slots_of("k")


def test_a_newer_identity_replaces_an_older_one(probe: ModuleType) -> None:
    table = Table(probe, "1/s")
    word = claim(table.key("k"), 9).word
    table.lay([Cell(*word, identity=settled(table.key("old"), 8))])
    assert probe.settle_identity(table.limiter, "k", 0, word)
    assert settled(table.key("k"), 9) == table[0].identity
