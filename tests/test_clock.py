"""The clock: beside the system's, from several threads, across jumps and forks. Nothing here sleeps.

The probe has a clock of its own, in its own translation unit, so that a test can start it anew and bend it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any, NamedTuple

import pytest

MS = 10**6
SECOND = 10**9
BOUND_NS = MS
"""How far the clock may be from the system's. More is a jump to it; drift between anchors is less."""

SPAN_NS = 100 * MS
"""More than any test here lets an anchor be in force."""


class Watch(NamedTuple):
    """The worst of many readings, in ns: see `watch` in probe.pyx."""

    back: int
    across: int
    behind: int
    ahead: int


def watch(probe: ModuleType, reads: int = 20_000) -> Watch:
    return Watch(*probe.watch(reads))


def watch_until(probe: ModuleType, reached: Callable[[Any], bool]) -> Watch:
    """Read until the clock's state is as wanted, in reason."""
    worst = Watch(0, 0, 0, 0)
    for _ in range(20_000):
        if reached(probe.clock_state()):
            return worst
        worst = Watch(*map(max, worst, watch(probe, 500)))
    raise AssertionError(f"not reached: {probe.clock_state()}")


@pytest.fixture
def counter(probe: ModuleType) -> ModuleType:
    """The probe with a running clock that reads the cycle counter, some anchors after its start."""
    if not probe.counter_trusted():
        pytest.skip("this machine's cycle counter is not to be trusted, so the engine does not read it")
    probe.start_clock(True)
    watch_until(probe, lambda state: state.generation >= 3)
    return probe


def next_anchor(probe: ModuleType) -> Watch:
    generation = probe.clock_state().generation
    return watch_until(probe, lambda state: state.generation > generation)


def in_ticks(probe: ModuleType, ns: int) -> int:
    return (ns << 32) // int(probe.clock_state().rate)


# --- beside the system's clock


def test_the_counter_agrees_with_the_system_s_clock(counter: ModuleType) -> None:
    found = watch_until(counter, lambda state: state.generation >= 6)
    print(f"within {max(found.behind, found.ahead)} ns of the system's clock; the bound is {BOUND_NS}")
    assert 0 == found.back
    assert max(found.behind, found.ahead) <= BOUND_NS


def test_a_clock_that_runs_fast_is_found_out(counter: ModuleType) -> None:
    """Control: the watch above sees what it looks for."""
    counter.edit_clock(rate=2 * counter.clock_state().rate, span=in_ticks(counter, SPAN_NS))
    boot_ns = counter.boot_time()
    worst = watch(counter)
    while counter.boot_time() < boot_ns + 3 * MS:
        worst = Watch(*map(max, worst, watch(counter)))
    assert worst.ahead > BOUND_NS


def test_a_clock_that_steps_back_is_found_out(counter: ModuleType) -> None:
    """Control: so does the one below."""
    watch(counter)
    counter.edit_clock(ns=counter.clock_state().ns - 2 * BOUND_NS)
    found = watch(counter, 1)
    assert min(found.across, found.behind) > BOUND_NS


def test_a_clock_without_a_counter_is_the_system_s(probe: ModuleType) -> None:
    probe.start_clock(False)
    assert Watch(0, 0, 0, 0) == watch(probe)
    assert (0, 0) == (probe.clock_state().generation, probe.clock_state().rate)


def test_until_a_rate_is_known_the_clock_is_the_system_s(counter: ModuleType) -> None:
    counter.start_clock(True)
    assert (0, 0) == (counter.clock_state().generation, counter.clock_state().rate)
    found = watch_until(counter, lambda state: state.generation == 1)
    assert Watch(0, 0, 0, 0) == found
    assert counter.clock_state().rate > 0


@pytest.mark.stress
@pytest.mark.parametrize("trusted", [True, False])
def test_no_thread_sees_time_go_back(probe: ModuleType, trusted: bool) -> None:
    """2,400,000 readings by four threads, while the first anchors follow each other closely."""
    probe.start_clock(trusted and probe.counter_trusted())
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: watch(probe, 600_000), range(4)))
    assert [0] * 4 == [one.back for one in found]
    assert [0] * 4 == [one.across for one in found]
    assert probe.clock_state().generation >= 4 * (trusted and probe.counter_trusted())


# --- jumps


def test_after_the_counter_fell_back_the_rate_is_measured_anew(counter: ModuleType) -> None:
    state, ticks = counter.clock_state(), in_ticks(counter, 3_600 * SECOND)
    counter.edit_clock(counter=state.counter + ticks, origin=state.origin + ticks)
    found = watch(counter, 1)
    assert 0 == found.across
    assert max(found.behind, found.ahead) <= BOUND_NS
    assert 0 == counter.clock_state().rate
    found = next_anchor(counter)
    assert counter.clock_state().rate == pytest.approx(state.rate, rel=1e-3)
    assert 0 == found.back
    assert max(found.behind, found.ahead) <= BOUND_NS


def test_after_the_counter_leapt_ahead_time_waits_for_the_system_s(counter: ModuleType) -> None:
    """The leap is believed for at most the span of the anchor; then time goes slowly until it is right."""
    state, ticks = counter.clock_state(), in_ticks(counter, 3_600 * SECOND)
    told_ns = state.span * state.rate >> 32
    counter.edit_clock(counter=state.counter - ticks, origin=state.origin - ticks)
    found = watch(counter, 1)
    assert 0 == found.across
    assert found.ahead <= told_ns
    assert 0 == counter.clock_state().rate
    boot_ns = counter.boot_time()
    while counter.boot_time() < boot_ns + 4 * told_ns and found.ahead:
        found = watch(counter, 2_000)
        assert (0, 0) == (found.back, found.across)
        assert found.behind <= BOUND_NS
    assert found.ahead <= BOUND_NS


def test_after_a_suspend_time_goes_forward_at_once(counter: ModuleType) -> None:
    """The system's clock went on while the counter stood still."""
    state, hour = counter.clock_state(), 3_600 * SECOND
    counter.edit_clock(ns=state.ns - hour, origin_ns=state.origin_ns - hour, span=0)
    found = watch(counter, 1)
    assert max(found.behind, found.ahead) <= BOUND_NS
    assert 0 == counter.clock_state().rate
    next_anchor(counter)
    assert counter.clock_state().rate == pytest.approx(state.rate, rel=1e-3)


def test_a_small_error_is_slowed_away_and_is_no_jump(counter: ModuleType) -> None:
    state = counter.clock_state()
    counter.edit_clock(ns=state.ns + MS // 2)
    for _ in range(3):
        found = next_anchor(counter)
        assert (0, 0) == (found.back, found.across)
        assert counter.clock_state().rate > state.rate // 3
    found = watch(counter)
    assert found.ahead < MS // 4


def test_time_goes_on_while_another_thread_is_stuck_setting_an_anchor(counter: ModuleType) -> None:
    """By the old anchor for its span, by the system's clock from then on."""
    state = counter.clock_state()
    counter.edit_clock(setting=1)
    boot_ns, found = counter.boot_time(), watch(counter)
    while counter.boot_time() < boot_ns + 4 * (state.span * state.rate >> 32):
        found = Watch(*map(max, found, watch(counter)))
    assert (0, 0) == (found.back, found.across)
    assert max(found.behind, found.ahead) <= BOUND_NS
    assert state[:4] == counter.clock_state()[:4]
    counter.edit_clock(setting=0)
    assert 0 == next_anchor(counter).across


# --- wall time

HOUR_NS = 3_600 * SECOND
READING_NS = 100 * MS
"""Room for whatever comes between two readings of the system's clocks, next to an hour."""


def is_right(probe: ModuleType) -> bool:
    return abs(int(probe.clock_state().wall_offset) - int(probe.wall_offset())) < READING_NS


def test_each_anchor_brings_the_wall_offset_along(counter: ModuleType) -> None:
    counter.edit_clock(wall_offset=HOUR_NS)
    next_anchor(counter)
    assert is_right(counter)


def test_without_a_counter_the_wall_offset_is_read_each_second(probe: ModuleType) -> None:
    probe.start_clock(False)
    due = probe.now() + SECOND
    assert is_right(probe)
    probe.edit_clock(wall_offset=HOUR_NS, wall_due=due)
    probe.now()
    assert HOUR_NS == probe.clock_state().wall_offset
    probe.edit_clock(wall_due=probe.now())
    probe.now()
    assert is_right(probe)
    assert 0 < probe.clock_state().wall_due - probe.now() <= SECOND


# --- forks


def test_a_child_forked_while_an_anchor_was_set_sets_its_own(counter: ModuleType) -> None:
    counter.edit_clock(setting=1)
    generation = counter.clock_state().generation
    child = os.fork()
    if child == 0:
        os._exit(0 if recovers(counter) else 1)
    _, status = os.waitpid(child, 0)
    assert 0 == os.waitstatus_to_exitcode(status)
    assert (1, generation) == (counter.clock_state().setting, counter.clock_state().generation)


def recovers(probe: ModuleType) -> bool:
    found = next_anchor(probe)
    return found.back == 0 and max(found.behind, found.ahead) <= BOUND_NS and probe.clock_state().setting == 0
