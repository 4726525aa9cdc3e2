"""Token bucket, kept as one theoretical arrival time: the GCRA.

A bucket of `capacity` tokens that wins one back each `emission_interval` needs no counter: the instant at
which it will be full again, the theoretical arrival time `tat`, says it all. Source: the virtual scheduling
algorithm of ITU-T I.371 and ATM Forum TM 4.0, whose limit L is our `tolerance` less one interval.

`count` is the cost admitted so far, modulo 2^32. It decides nothing: it tells a synchronizer what to report.
"""

from __future__ import annotations

from typing import NamedTuple

from .outcome import Limit, Report

COUNT_MASK = 2**32 - 1


class State(NamedTuple):
    tat: int
    count: int  # type: ignore[assignment]  # a tuple's method of that name, which is of no use here


def fresh() -> State:
    return State(0, 0)


def is_fresh(state: State, now: int, limit: Limit) -> bool:
    return state.tat <= now


def step(state: State, now: int, cost: int, limit: Limit) -> tuple[bool, State]:
    tat = max(state.tat, now) + cost * limit.emission_interval
    if tat - now > limit.tolerance:
        return False, state
    return True, State(tat, (state.count + cost) & COUNT_MASK)


def report(before: State, after: State, now: int, cost: int, allowed: bool, limit: Limit) -> Report:
    room = now + limit.tolerance - max(after.tat, now)
    return Report(
        remaining=max(room, 0) // limit.emission_interval,
        allowed_at=now if allowed else before.tat + cost * limit.emission_interval - limit.tolerance,
        fresh_at=max(after.tat, now),
        starts_at=now,
    )


def debit(state: State, now: int, cost: int, limit: Limit) -> tuple[bool, State]:
    """Charge without asking, down to one further capacity of debt; False when that clamped it."""
    wanted = max(state.tat, now) + cost * limit.emission_interval
    tat = max(state.tat, min(wanted, now + 2 * limit.tolerance))
    return tat == wanted, State(tat, (state.count + cost) & COUNT_MASK)


def refund(state: State, now: int, cost: int, limit: Limit) -> State:
    tat = max(min(now, state.tat), state.tat - cost * limit.emission_interval)
    return State(tat, (state.count - cost) & COUNT_MASK)


def convert(state: State, was: int, now: int, old: Limit, new: Limit) -> State:
    """The same debt in tokens, rounded up, at most twice the new capacity; `was`: `now` in the old units."""
    debt = -(-max(state.tat - was, 0) * new.emission_interval // old.emission_interval)
    return State(now + min(debt, 2 * new.tolerance) if debt else 0, state.count)
