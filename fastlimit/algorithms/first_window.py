"""Fixed window that begins with a key's first hit instead of at a common edge.

A state is (start, current): when the window began, and what was admitted since. It is over, and the key
fresh, one `window` after its start. Other limiters call this a fixed window too; here it is
`FixedWindow(rate, anchor="first")`.
"""

from __future__ import annotations

from typing import NamedTuple

from .outcome import Limit, Report


class State(NamedTuple):
    start: int
    current: int


def roll(state: State, now: int, limit: Limit) -> State:
    """The state as it stands now: its window, or an empty one that begins now."""
    return State(now, 0) if state.current == 0 or now >= state.start + limit.window else state


def fresh() -> State:
    return State(0, 0)


def is_fresh(state: State, now: int, limit: Limit) -> bool:
    return roll(state, now, limit).current == 0


def step(state: State, now: int, cost: int, limit: Limit) -> tuple[bool, State]:
    start, current = roll(state, now, limit)
    if current + cost > limit.capacity:
        return False, state
    return True, State(start, current + cost)


def report(before: State, after: State, now: int, cost: int, allowed: bool, limit: Limit) -> Report:
    start, current = roll(after, now, limit)
    end = start + limit.window
    return Report(
        remaining=max(limit.capacity - current, 0),
        allowed_at=now if allowed else end,
        fresh_at=end if current else now,
        starts_at=now,
    )


def debit(state: State, now: int, cost: int, limit: Limit) -> tuple[bool, State]:
    """Charge without asking, down to one further capacity of debt; False when that clamped it."""
    start, current = roll(state, now, limit)
    charged = max(current, min(current + cost, 2 * limit.capacity))
    return charged == current + cost, State(start, charged)


def refund(state: State, now: int, cost: int, limit: Limit) -> State:
    start, current = roll(state, now, limit)
    return State(start, max(current - cost, 0))


def convert(state: State, was: int, now: int, old: Limit, new: Limit) -> State:
    """The same count; in a window from now on if its length or units changed. `was`: as in `token_bucket`."""
    start, current = roll(state, was, old)
    return State(start if (old.window, was) == (new.window, now) else now, min(current, 2 * new.capacity))
