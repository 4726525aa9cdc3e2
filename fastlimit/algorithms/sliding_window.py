"""Sliding window, estimated from two counters: the previous window, weighted by how much of it is in sight.

With e the time since the current window began, the estimate of what was admitted in (now - window, now] is
`current + previous * (window - e) / window`; a call passes when estimate + cost <= capacity. The comparison
is exact, in integers: both sides times `window`. Source: "How we built rate limiting capable of scaling to
millions of domains", Cloudflare, 2017. It assumes that the hits of the previous window were spread evenly.

States, window numbers and clocks that step back: as in `fixed_window`.
"""

from __future__ import annotations

from . import fixed_window
from .fixed_window import INDEX_MASK, State, fresh, index_of, roll, settle
from .outcome import Limit, Report

__all__ = ["State", "convert", "debit", "fresh", "is_fresh", "refund", "report", "settle", "step"]


def start_of(state: State, now: int, limit: Limit) -> int:
    """When the window of a rolled state began; later than `now` if the clock stepped back over an edge."""
    return fixed_window.end_of(state, now, limit) - limit.window


def in_sight(state: State, now: int, limit: Limit) -> int:
    """`previous` as it weighs now, times `window`."""
    elapsed = max(now - start_of(state, now, limit), 0)
    return state.previous * (limit.window - elapsed)


def passes_at(previous: int, current: int, cost: int, limit: Limit) -> int:
    """How long after the start of its window `cost` first passes; needs current + cost <= capacity."""
    room = limit.capacity - current - cost
    return limit.window - room * limit.window // previous if previous > room else 0


def is_fresh(state: State, now: int, limit: Limit) -> bool:
    rolled = roll(state, index_of(now, limit))
    return rolled.previous == 0 and rolled.current == 0


def step(state: State, now: int, cost: int, limit: Limit) -> tuple[bool, State]:
    rolled = roll(state, index_of(now, limit))
    if in_sight(rolled, now, limit) + (rolled.current + cost) * limit.window > limit.capacity * limit.window:
        return False, state
    return True, rolled._replace(current=rolled.current + cost)


def report(before: State, after: State, now: int, cost: int, allowed: bool, limit: Limit) -> Report:
    state = roll(after, index_of(now, limit))
    start = start_of(state, now, limit)
    end = start + limit.window
    if allowed:
        allowed_at = now
    elif state.current + cost <= limit.capacity:
        allowed_at = start + passes_at(state.previous, state.current, cost, limit)
    else:
        allowed_at = end + passes_at(state.current, 0, cost, limit)
    return Report(
        remaining=max(limit.capacity - state.current - -(-in_sight(state, now, limit) // limit.window), 0),
        allowed_at=allowed_at,
        fresh_at=end + limit.window if state.current else end if state.previous else now,
        starts_at=now,
    )


def debit(state: State, now: int, cost: int, limit: Limit) -> tuple[bool, State]:
    """Charge without asking, down to one further capacity of debt; False when that clamped it."""
    return fixed_window.debit(state, now, cost, limit)


def refund(state: State, now: int, cost: int, limit: Limit) -> State:
    """Given back from the current window first, then from the previous one."""
    index, previous, current = roll(state, index_of(now, limit))
    rest = max(cost - current, 0)
    return State(index, max(previous - rest, 0), max(current - cost, 0))


def convert(state: State, was: int, now: int, old: Limit, new: Limit) -> State:
    """The same counts; the estimate, rounded up, into the window of now if length or edges changed."""
    rolled = roll(state, index_of(was, old))
    if (old.window, was) == (new.window, now):
        most = 2 * new.capacity
        return State(rolled.index, min(rolled.previous, most), min(rolled.current, most))
    estimate = rolled.current - (-in_sight(rolled, was, old) // old.window)
    return State(index_of(now, new) & INDEX_MASK, 0, min(estimate, 2 * new.capacity))
