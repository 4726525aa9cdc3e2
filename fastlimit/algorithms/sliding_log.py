"""Sliding log: the instants of all units of cost that may still count; exact over every window (t - W, t].

A call passes when what was logged in (now - window, now] and its cost are at most the capacity. A unit that
was admitted at u counts until u + window, and not at it. The exact algorithm that the windows approximate;
its price is memory: an instant for each unit.

A state is (newest, log): the latest event, and the instants of the units, oldest first. Time in a log never
runs back: to a clock that stepped back, now is `newest`. A refund takes one tick of it, so that no state of a
log ever comes back; else, in the kernel, a call that began before could take effect after it, upon other
entries than it had looked at. Instants count from 1.

The kernel keeps the log in a ring beside the slot, and reads one entry of it for a call: with the log in
order, `cost` more units fit if the (capacity - cost + 1)-th newest is out of the window.
"""

from __future__ import annotations

from typing import NamedTuple

from .outcome import Limit, Report


class State(NamedTuple):
    newest: int
    log: tuple[int, ...]


def reading(state: State, now: int) -> int:
    """What now is to this log."""
    return max(now, state.newest, 1)


def inside(state: State, at: int, limit: Limit) -> tuple[int, ...]:
    """The units in the window."""
    return tuple(instant for instant in state.log if instant + limit.window > at)


def fresh() -> State:
    return State(0, ())


def is_fresh(state: State, now: int, limit: Limit) -> bool:
    return state.newest == 0 or state.newest + limit.window <= now


def step(state: State, now: int, cost: int, limit: Limit) -> tuple[bool, State]:
    at = reading(state, now)
    log = inside(state, at, limit)
    if len(log) + cost > limit.capacity:
        return False, state
    return True, State(at, log + (at,) * cost)


def report(before: State, after: State, now: int, cost: int, allowed: bool, limit: Limit) -> Report:
    at = reading(after, now)
    log = inside(after, at, limit)
    allowed_at = now
    if not allowed:
        must_leave = len(log) + cost - limit.capacity
        allowed_at = log[must_leave - 1] + limit.window
    return Report(
        remaining=max(limit.capacity - len(log), 0),
        allowed_at=allowed_at,
        fresh_at=now if is_fresh(after, now, limit) else after.newest + limit.window,
        starts_at=now,
    )


def debit(state: State, now: int, cost: int, limit: Limit) -> tuple[bool, State]:
    """Charge without asking, down to one further capacity of debt; False when that clamped it."""
    at = reading(state, now)
    log = inside(state, at, limit)
    charged = min(cost, max(2 * limit.capacity - len(log), 0))
    return charged == cost, State(at, log + (at,) * charged) if charged else state


def refund(state: State, now: int, cost: int, limit: Limit) -> State:
    """Take the newest units out; with the last of them the key is fresh."""
    owed = len(inside(state, reading(state, now), limit))
    if cost >= owed:
        return fresh() if owed else state
    return State(state.newest + 1, state.log[: len(state.log) - cost])


def convert(state: State, was: int, now: int, old: Limit, new: Limit) -> State:
    """The same log: an update keeps the window's length."""
    return state
