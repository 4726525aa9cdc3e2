"""Fixed window: a counter per window, windows aligned to 1970-01-01 UTC or to the calendar's months.

A state is (index, previous, current): the number of its window modulo 2^28, and what was admitted in the one
before and in this one. `previous` decides nothing here; it keeps the tail of a window for a synchronizer that
comes late.

A window's number wraps: a key idle for exactly 2^28 windows meets its old count for at most two windows,
which can only refuse early. A number up to 2^17 windows ahead of now is a clock that stepped back: one ahead,
and now counts as that window; further ahead, and the state moves to now's window with its counts (`roll`), so
no step gives budget back.
"""

from __future__ import annotations

from typing import NamedTuple

from .outcome import Limit, Report

INDEX_MASK = 2**28 - 1
AHEAD = 2**28 - 2**17
EPOCH_YEAR = 1970
DAY = 86_400 * 10**9


class State(NamedTuple):
    index: int  # type: ignore[assignment]  # a tuple's method of that name, which is of no use here
    previous: int
    current: int


def days_before_month(months: int) -> int:
    """Days from 1970-01-01 to the first day of the month that begins `months` months later.

    Source: `days_from_civil` of Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms"; the year
    starts in March.
    """
    year, month = EPOCH_YEAR + (months - 2) // 12, (months - 2) % 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 - 719_468


def start_of(index: int, limit: Limit) -> int:
    return days_before_month(index * limit.months) * DAY if limit.months else index * limit.window


def index_of(now: int, limit: Limit) -> int:
    if not limit.months:
        return now // limit.window
    days = now // DAY
    # 4,800 months in 400 years of 146,097 days: at most two too few.
    months = max(days * 4_800 // 146_097 - 1, 0)
    while days_before_month(months + 1) <= days:
        months += 1
    return months // limit.months


def roll(state: State, index: int) -> State:
    """The state as it stands in the window `index`, or in the next if the clock stepped back over an edge."""
    distance = (index - state.index) & INDEX_MASK
    empty = state.previous == 0 and state.current == 0
    if distance == 0 or (distance == INDEX_MASK and not empty):
        return state
    if distance == 1:
        return State(index & INDEX_MASK, state.current, 0)
    if distance >= AHEAD:
        return State(index & INDEX_MASK, state.previous, state.current)
    return State(index & INDEX_MASK, 0, 0)


def settle(state: State, now: int, limit: Limit) -> State:
    """Bring a state that is more than one window ahead of a clock that stepped back to now's window."""
    index = index_of(now, limit)
    return roll(state, index) if (index - state.index) & INDEX_MASK >= AHEAD else state


def end_of(state: State, now: int, limit: Limit) -> int:
    """When the window of a rolled state ends."""
    index = index_of(now, limit)
    return start_of(index + ((state.index - index) & INDEX_MASK) + 1, limit)


def fresh() -> State:
    return State(0, 0, 0)


def is_fresh(state: State, now: int, limit: Limit) -> bool:
    return roll(state, index_of(now, limit)).current == 0


def step(state: State, now: int, cost: int, limit: Limit) -> tuple[bool, State]:
    index, previous, current = roll(state, index_of(now, limit))
    if current + cost > limit.capacity:
        return False, state
    return True, State(index, previous, current + cost)


def report(before: State, after: State, now: int, cost: int, allowed: bool, limit: Limit) -> Report:
    state = roll(after, index_of(now, limit))
    end = end_of(state, now, limit)
    return Report(
        remaining=max(limit.capacity - state.current, 0),
        allowed_at=now if allowed else end,
        fresh_at=end if state.current else now,
        starts_at=now,
    )


def debit(state: State, now: int, cost: int, limit: Limit) -> tuple[bool, State]:
    """Charge without asking, down to one further capacity of debt; False when that clamped it."""
    index, previous, current = roll(state, index_of(now, limit))
    charged = max(current, min(current + cost, 2 * limit.capacity))
    return charged == current + cost, State(index, previous, charged)


def refund(state: State, now: int, cost: int, limit: Limit) -> State:
    index, previous, current = roll(state, index_of(now, limit))
    return State(index, previous, max(current - cost, 0))


def convert(state: State, was: int, now: int, old: Limit, new: Limit) -> State:
    """The same counts; in the window of now if length or edges changed. `was`: `now` in the old units."""
    index, previous, current = roll(state, index_of(was, old))
    current = min(current, 2 * new.capacity)
    if (old.window, old.months, was) == (new.window, new.months, now):
        return State(index, previous, current)
    return State(index_of(now, new) & INDEX_MASK, 0, current)
