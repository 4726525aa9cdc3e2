"""The checker of histories on ones written by hand: it explains what can be, and nothing else."""

from __future__ import annotations

import pytest
from linearizability import NEVER, Event, overlaps, search, written
from sequential import Sequential, World

from fastlimit import FixedWindow, TokenBucket
from fastlimit.limits import Limit

pytestmark = pytest.mark.linearizable

SECOND = 10**9
START_NS = 10**18

ONE = TokenBucket("1/s")
TWO = TokenBucket("2/s")


def explained(
    *clients: list[Event], limits: tuple[Limit, ...] = (TWO,), steps: tuple[int, ...] = (SECOND,)
) -> bool:
    start = World(START_NS, 0, (None, None))
    return search(clients, Sequential(limits, start, base_ns=START_NS, steps=steps)).linearizable


def charge(called: int, returned: int, allowed: bool = True, remaining: int = 0, key: int = 0) -> Event:
    return Event("charge", called, returned, key, 1, allowed, remaining)


def peek(called: int, returned: int, allowed: bool, remaining: int) -> Event:
    return Event("peek", called, returned, 0, 1, allowed, remaining)


def advance(called: int, returned: int) -> Event:
    return Event("advance", called, returned)


def test_nothing_is_explained() -> None:
    assert explained()
    assert explained([], [])


def test_one_client_is_held_to_its_order() -> None:
    assert explained([charge(1, 2, True, 1), charge(3, 4, True, 0), charge(5, 6, False, 0)])
    assert not explained([charge(1, 2, True, 0), charge(3, 4, True, 1)])
    assert not explained([charge(1, 2, False, 0)])


def test_operations_that_overlap_may_take_effect_in_either_order() -> None:
    first, second = charge(1, 4, True, 0), charge(2, 3, True, 1)
    assert explained([first], [second])
    assert explained([charge(1, 4, True, 1)], [charge(2, 3, True, 0)])


def test_operations_that_do_not_overlap_may_not() -> None:
    assert explained([charge(1, 2, True, 1)], [charge(3, 4, True, 0)])
    assert not explained([charge(1, 2, True, 0)], [charge(3, 4, True, 1)])


def test_a_unit_is_granted_once() -> None:
    assert not explained([charge(1, 4, True, 1)], [charge(2, 3, True, 1)])
    assert not explained([charge(1, 9, True, 1)], [charge(2, 8, True, 0)], [charge(3, 7, True, 0)])
    assert explained([charge(1, 9, True, 1)], [charge(2, 8, True, 0)], [charge(3, 7, False, 0)])


def test_keys_are_apart() -> None:
    assert explained([charge(1, 2, True, 1)], [charge(3, 4, True, 1, key=1)])


def test_what_every_kind_does() -> None:
    def of(kind: str, called: int, cost: int, remaining: int | None) -> Event:
        return Event(kind, called, called + 1, 0, cost, True, remaining)

    assert explained(
        [of("debit", 1, 3, 0), of("refund", 3, 2, 1), of("reset", 5, 1, None), of("peek", 7, 1, 2)]
    )
    assert not explained([of("debit", 1, 3, 0), of("refund", 3, 2, 2)])
    assert not explained([charge(1, 2, True, 1), of("reset", 3, 1, None), of("peek", 5, 1, 1)])


# --- the clock


@pytest.mark.parametrize("called", [1, 4])
def test_a_reading_may_be_from_before_or_after_an_advance_that_overlaps(called: int) -> None:
    used = [charge(-3, -2, True, 0)]
    for outcome in (True, 0), (False, 0):
        assert explained([*used, charge(called, 6, *outcome)], [advance(2, 5)], limits=(ONE,))


def test_a_reading_is_no_older_than_the_call() -> None:
    used = charge(1, 2, True, 0)
    assert not explained([used, charge(5, 6, False, 0)], [advance(3, 4)], limits=(ONE,))
    assert explained([used, charge(5, 6, True, 0)], [advance(3, 4)], limits=(ONE,))


def test_a_reading_is_no_newer_than_the_return() -> None:
    used = charge(1, 2, True, 0)
    assert not explained([used, charge(3, 4, True, 0)], [advance(5, 6)], limits=(ONE,))


def test_an_operation_may_act_on_a_reading_older_than_what_it_acts_on() -> None:
    """Window 2 took its last unit after the clock moved; a refusal by the old reading is told after that."""
    limit = FixedWindow("1/s")
    used = charge(1, 2, True, 0)
    late, early, move = charge(3, 10, False, 0), charge(6, 7, True, 0), advance(4, 5)
    assert explained([used, late], [move, early], limits=(limit,))
    assert not explained([used, late._replace(allowed=True)], [move, early], limits=(limit,))


def test_a_value_counts_as_seen_only_if_nothing_that_took_effect_before_it_forbids_it() -> None:
    """By tickets alone the last charge, called while the advance runs, might have read the clock before it;
    but the second one, which returned before that call, can only have been allowed after the advance."""
    first, second = charge(1, 2, True, 0), charge(4, 5, True, 0)
    move = advance(3, 9)
    assert explained([first, second, charge(6, 7, False, 0)], [move], limits=(ONE,))
    window = FixedWindow("2/s")
    spent = [charge(1, 2, True, 1), charge(3, 4, True, 0), charge(6, 7, True, 1)]
    assert explained([*spent, peek(8, 9, True, 1)], [advance(5, 11)], limits=(window,))
    # By the window before, which only a reading from before the advance could mean, nothing would be left.
    assert not explained([*spent, peek(8, 9, False, 0)], [advance(5, 11)], limits=(window,))


# --- limits that change, and callers that die


def test_an_update_is_in_force_from_one_moment_on() -> None:
    update, sweep = Event("update", 1, 6), Event("sweep", 1, 6, 0, 1)
    both = (TWO, TokenBucket("4/s"))
    for remaining in (1, 3):
        assert explained([update], [sweep], [charge(2, 3, True, remaining)], limits=both)
    assert not explained([update], [sweep], [charge(7, 8, True, 1)], limits=both)
    after = [charge(2, 3, True, 3), charge(4, 5, True, 0)]
    assert not explained([update], [sweep], after, limits=both)


def test_a_bucket_is_converted_before_the_update_returns() -> None:
    """A second later, what it owed is not gone: by then it was converted to the slower rate."""
    both = (ONE, TokenBucket("1/minute", burst=1))
    clients = [charge(1, 2, True, 0), Event("update", 3, 4), advance(5, 6)], [Event("sweep", 3, 4, 0, 1)]
    assert explained([*clients[0], charge(7, 8, False, 0)], clients[1], limits=both)
    assert not explained([*clients[0], charge(7, 8, True, 0)], clients[1], limits=both)


def test_what_a_dead_caller_was_doing_happened_or_did_not() -> None:
    dead = charge(1, 4)._replace(optional=True, allowed=False, remaining=None)
    for allowed in (True, False):
        assert explained([dead], [charge(5, 6, allowed, 0)], limits=(ONE,))
    assert not explained([dead], [charge(5, 6, True, 0), charge(7, 8, True, 0)], limits=(ONE,))


def test_a_dead_caller_does_nothing_after_its_death() -> None:
    dead = charge(1, 4)._replace(optional=True, allowed=False, remaining=None)
    assert not explained([dead], [peek(5, 6, True, 1), peek(7, 8, False, 0)], limits=(ONE,))
    assert explained([dead], [peek(2, 3, True, 1), peek(7, 8, False, 0)], limits=(ONE,))


# --- figures


def test_what_overlapped_is_counted() -> None:
    history = [charge(1, 4), charge(7, 8)], [charge(2, 3), charge(5, 6)]
    assert 1 == overlaps(history)
    assert 0 == overlaps([[charge(1, 2)], [charge(3, 4)]])


def test_a_history_is_written_in_the_order_of_calls() -> None:
    lines = written([[charge(3, NEVER)._replace(optional=True)], [charge(1, 2, True, 1)]]).splitlines()
    assert "client 1     1 to     2  charge key 0 cost 1: allowed, 1 left" == lines[0]
    assert "client 0     3 to never  charge key 0 cost 1: died, 0 left" == lines[1]
