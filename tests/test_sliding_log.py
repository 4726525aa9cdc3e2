"""What is the sliding log's own: its arena, rings that wrap, logs that are inherited from an overflow bucket.

What it decides, the golden vectors, agreement and laws say, as of every algorithm; its races are played and
stormed with the others in `test_kernel_turns.py` and `test_threads.py`.
"""

from __future__ import annotations

import random
import re
import struct
from types import ModuleType

import pytest
from kernel_probe import BIRTH, SECOND, START_S, WINDOW, Played, Table, play

from fastlimit import InvalidLimit, Limiter, SlidingLog, TokenBucket
from fastlimit.reference import ReferenceLimiter
from fastlimit.testing import ManualClock

# --- memory


def test_a_small_count_takes_as_many_keys_as_other_limits() -> None:
    assert (65_536, 65_536) == (Limiter("3/s").max_keys, Limiter("sliding-log 3/s").max_keys)


@pytest.mark.parametrize(("count", "max_keys"), [(8, 32_768), (100, 2_048), (1_000, 256), (65_536, 16)])
def test_by_default_there_are_as_many_keys_as_fit_32_mb(count: int, max_keys: int) -> None:
    stats = Limiter(SlidingLog(f"{count}/s")).stats()
    assert max_keys == stats.max_keys
    assert 2**25 >= stats.log_bytes or max_keys == 16


@pytest.mark.parametrize("count", [1, 2, 3, 100, 128, 129, 65_536])
def test_the_arena_is_stated_to_the_byte(count: int) -> None:
    """A ring for each slot and overflow slot: four times the count, to a power of two, 16 bytes an entry."""
    ring = 4
    while ring < 4 * count:
        ring *= 2
    slots = 2 * 67 + WINDOW + 64
    stats = Limiter(SlidingLog(f"{count}/s"), max_keys=100, max_log_bytes=2**40).stats()
    assert slots * ring * 16 == stats.log_bytes


def test_other_limits_have_no_arena() -> None:
    assert 0 == Limiter("100/s", max_log_bytes=0).stats().log_bytes


def test_an_arena_may_be_as_large_as_it_is_allowed_to_be() -> None:
    needed = Limiter("sliding-log 10/s", max_keys=1_000).stats().log_bytes
    exactly = Limiter("sliding-log 10/s", max_keys=1_000, max_log_bytes=needed)
    assert needed == exactly.stats().log_bytes
    with pytest.raises(ValueError, match=rf"takes {needed:,} bytes .*, above max_log_bytes={needed - 1:,}"):
        Limiter("sliding-log 10/s", max_keys=1_000, max_log_bytes=needed - 1)


def test_logs_of_several_limits_add_up() -> None:
    both = Limiter("sliding-log 10/s; 5/s; sliding-log 40/min", max_keys=100).stats().log_bytes
    each = [Limiter(f"sliding-log {rate}", max_keys=100).stats().log_bytes for rate in ("10/s", "40/min")]
    assert sum(each) == both


# --- updates


def test_an_update_may_use_the_room_that_there_is() -> None:
    clock = ManualClock(1_000.0)
    limiter = Limiter("sliding-log 100/min", clock=clock)
    assert limiter.acquire("k", 100).allowed
    limiter.update("sliding-log 128/min")
    assert 28 == limiter.peek("k").remaining
    limiter.update("sliding-log 1/min")
    limiter.update("sliding-log 128/min")
    assert 28 == limiter.peek("k").remaining


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (
            "sliding-log 129/min",
            "update: this sliding log has room for a count of 128, not 129; build another limiter for more",
        ),
        (
            "sliding-log 100/h",
            "update keeps the window of a sliding log, sliding-log 100/min: it holds the instants of that one"
            " only; build another limiter for another window",
        ),
    ],
)
def test_an_update_beyond_the_log_is_refused(limit: str, message: str) -> None:
    limiter = Limiter("sliding-log 100/min", clock=ManualClock(1_000.0))
    limiter.acquire("k", 60)
    with pytest.raises(InvalidLimit, match=f"^{re.escape(message)}$"):
        limiter.update(limit)
    assert (40, (SlidingLog("100/min"),)) == (limiter.peek("k").remaining, limiter.limits)


# --- long lives


def brute_force(hits: list[tuple[int, int]], now_ns: int, window_ns: int) -> int:
    return sum(cost for at, cost in hits if at > now_ns - window_ns)


@pytest.mark.parametrize("count", [1, 3, 64, 65_536])
def test_a_ring_goes_round_and_round(count: int) -> None:
    """Many times as many units as a ring has entries; each call against the sum of what came before."""
    draw, clock = random.Random(count), ManualClock(1_000.0)
    limiter = Limiter(SlidingLog(f"{count}/s"), clock=clock)
    hits: list[tuple[int, int]] = []
    granted = 0
    while granted < 20 * count:
        clock.advance_ns(draw.choice((0, 1, SECOND // count, SECOND // 5, SECOND - 1, SECOND)))
        hits = [hit for hit in hits if hit[0] > clock.now_ns - SECOND]
        cost = draw.randint(1, count)
        decision = limiter.acquire("k", cost)
        room = count - brute_force(hits, clock.now_ns, SECOND)
        assert (cost <= room) == decision.allowed
        if decision.allowed:
            hits.append((clock.now_ns, cost))
            granted += cost
        assert room - cost * decision.allowed == decision.remaining


def test_the_running_count_may_wrap(probe: ModuleType) -> None:
    """A slot's count passes 2^32 in the middle of a full log."""
    table = Table(probe, SlidingLog("5/10s"))
    table.limiter.allow("k")
    table.clock.advance_ns(100 * SECOND)
    cell = table[0]
    table[0] = cell._replace(hi=cell.hi >> 32 << 32 | 2**32 - 3)
    for left in (4, 3, 2, 1, 0):
        table.clock.advance_ns(SECOND)
        assert left == table.limiter.acquire("k").remaining
    assert 2 == table[0].admitted
    refused = table.limiter.acquire("k", 2)
    assert (False, 7 * SECOND) == (refused.allowed, refused.retry_after_ns)
    assert 1 == table.limiter.refund("k", 1).remaining
    table.clock.advance_ns(6 * SECOND)
    assert 2 == table.limiter.peek("k").remaining


def test_a_key_never_reads_what_another_left_in_its_slot(probe: ModuleType) -> None:
    table = Table(probe, SlidingLog("3/s"))
    for i in range(20):
        key = f"key {i}"
        assert (3, [0]) == (table.grants(key), table.slots_of(key))
        table.clock.advance_ns(SECOND)


def test_a_reset_forgets_however_often(probe: ModuleType) -> None:
    table = Table(probe, SlidingLog("3/s"))
    for _ in range(1_000):
        assert 3 == table.grants("k")
        table.limiter.reset("k")


# --- full windows: a key that finds a slot begins with the log of its overflow bucket


def crowded(probe: ModuleType, count: int) -> Table:
    """All slots of the window owe for a while, and key "k" has `count` units in its overflow bucket."""
    table = Table(probe, SlidingLog("5/10s"))
    fillers = [f"filler {i}" for i in range(WINDOW)]
    assert bytes([1] * WINDOW) == table.limiter.allow_many(fillers)
    for _ in range(count):
        table.clock.advance_ns(SECOND)
        assert table.limiter.allow("k")
    assert ([], count) == (table.slots_of("k"), table.limiter.stats().full_events)
    return table


@pytest.mark.parametrize("count", range(6))
def test_a_log_is_inherited_from_the_overflow_bucket_unit_by_unit(probe: ModuleType, count: int) -> None:
    table = crowded(probe, count)
    model = ReferenceLimiter(SlidingLog("5/10s"), clock=table.clock)
    end_ns = table.clock.now_ns
    for i in range(count):
        table.clock.set_ns(end_ns - (count - 1 - i) * SECOND)
        model.acquire("k")
    table.limiter.reset("filler 7")
    for _ in range(12):
        seen, meant = table.limiter.acquire("k"), model.acquire("k")
        assert (meant.allowed, meant.remaining, meant.retry_after_ns, meant.reset_after_ns) == (
            seen.allowed,
            seen.remaining,
            seen.retry_after_ns,
            seen.reset_after_ns,
        )
        table.clock.advance_ns(SECOND)
    assert count == 5 or [7] == table.slots_of("k")


def inheriting(probe: ModuleType) -> Played:
    """Two callers claim a slot for a key that has 3 of 5 units in its overflow bucket; it is asked again.

    Outcome: how many were granted, then and afterwards.
    """
    table = crowded(probe, 3)
    table.limiter.reset("filler 0")
    calls = [table.probe.charge((table.limiter, "k", 1)) for _ in range(2)]
    return play(
        [[call] for call in calls],
        [table],
        lambda: (sum(call.allowed for call in calls), table.grants("k"), len(table.slots_of("k"))),
        preemptions=1,
    )


@pytest.mark.proof
def test_two_who_inherit_a_log_add_nothing_to_it(probe: ModuleType) -> None:
    """Nor is one charged to the overflow bucket: a slot that is being claimed does not count as owing."""
    assert {(2, 0, 1)} == set(inheriting(probe).outcomes)


# --- races of what only a log has


def logged_inside(table: Table) -> int:
    """Units of the first slot's log in the window of now, read from memory."""
    [(_, log)] = table.probe.memory(table.limiter)
    window = table.limiter.limits[0].parameters().window
    now = BIRTH + table.clock.now_ns - START_S * SECOND
    cell, length = table[0], table.limiter.stats().log_bytes // 16 // (len(table) + 64)
    entries = [struct.unpack_from("QQ", log, 16 * i) for i in range(length)]
    return sum(
        entries[seq % length] == (time, cell.gen << 32 | seq) and time + window > now
        for seq in range(cell.admitted - length, cell.admitted)
        for time in [entries[seq % length][0]]
    )


def test_a_late_writer_overwrites_no_unit_of_after_two_resets(probe: ModuleType) -> None:
    """Each moves the count on by two rings; a writer from before must not take what is there for its past.

    Outcome of a charge of 1 that dies beside two resets and a charge of 2: the count, the units in the log.
    """
    table = Table(probe, SlidingLog("3/s"))
    table.limiter.acquire("k")
    others = [probe.operate("reset", table.limiter, "k") for _ in range(2)]
    others.append(probe.charge((table.limiter, "k", 2)))
    played = play(
        [[probe.charge((table.limiter, "k", 1))], others],
        [table],
        lambda: (table[0].admitted - 4 * 16, logged_inside(table)),
        preemptions=1,
        deaths=1,
    )
    lived_after, died, before = (4, 3), (3, 2), (4, 2)
    assert {lived_after, died, before} == {outcome for outcome in played.outcomes if outcome[0] > 2}


def refunded_amid(probe: ModuleType, refund: str) -> Played:
    """Two units are given back and charged again by callers that read the clock long ago, while one begins
    that finds the oldest two of three gone. Outcome: units in the window.
    """
    table = Table(probe, SlidingLog("3/s"))
    for wait in (SECOND // 5, 3 * SECOND // 10, 0):
        table.limiter.allow("k")
        table.clock.advance_ns(wait)
    again, late = (probe.charge((table.limiter, "k", 2)) for _ in range(2))
    back = probe.operate(refund, table.limiter, "k", 2)
    clock = probe.advance(table.clock, 7 * SECOND // 10)
    return play(
        [[back], [again], [clock, late]],
        [table],
        lambda: logged_inside(table),
        preemptions=3,
        watched_slots=1,
    )


@pytest.mark.proof
def test_a_refund_brings_no_state_back(probe: ModuleType) -> None:
    assert 3 == max(refunded_amid(probe, "refund").outcomes)


@pytest.mark.proof
def test_a_refund_that_takes_no_time_does(probe: ModuleType) -> None:
    """Control: the word is what it was, and its entries are not; a late swap then admits one too many."""
    assert 4 == max(refunded_amid(probe, "refund in no time").outcomes)


def test_a_log_beside_a_bucket_is_all_or_nothing() -> None:
    clock = ManualClock(1_000.0)
    limiter = Limiter([TokenBucket("10/s"), SlidingLog("3/s")], clock=clock)
    assert [True] * 3 + [False] == [limiter.allow("k") for _ in range(4)]
    clock.advance(1.0)
    assert bytes([1, 1, 1, 0]) == limiter.allow_many(["k"] * 4)
    assert (6, 2) == (limiter.stats().allowed, limiter.stats().denied)


# --- clocks that step back


def test_units_that_had_left_count_again_if_the_clock_steps_back_after_a_refund() -> None:
    """A refund takes the newest units only, and moves a log's time by its one tick only."""
    clock = ManualClock(100.0)
    limiters = [make("sliding-log 5/10s", clock=clock) for make in (Limiter, ReferenceLimiter)]
    for limiter in limiters:
        clock.set(100.0)
        limiter.acquire("k", 3)
        clock.set(101.0)
        limiter.acquire("k", 2)
        clock.set(110.0)
        assert 4 == limiter.refund("k", 1).remaining
        clock.set(109.0)
        assert (1, 0) == (limiter.peek("k").remaining, limiter.acquire("k", 1).remaining)
