"""Planted bugs: one line of an algorithm or of the reference model changed, written as in a patch.

A check that cannot tell these from the real thing proves nothing, so vectors, agreement and laws must each
notice theirs.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

from fastlimit import reference
from fastlimit.limits import Algorithm

TOKEN, LEAKY, FIXED, FIRST, SLIDING, LOG = Algorithm


class Mutant(NamedTuple):
    what: str
    algorithm: Algorithm | None
    """Whose module the line is in; None for the reference model's own."""
    line: str
    instead: str

    def __str__(self) -> str:
        place = "reference" if self.algorithm is None else self.algorithm.name.lower()
        return f"{place}: {self.what}"


def twin(module: ModuleType, line: str = "", instead: str = "") -> ModuleType:
    """A second, independent copy of a module, with one place changed."""
    source = inspect.getsource(module)
    if line:
        assert source.count(line) == 1, f"{line!r} must occur once in {module.__name__}"
        source = source.replace(line, instead)
    copy = ModuleType(module.__name__)
    copy.__package__ = module.__package__
    exec(compile(source, f"mutant of {module.__file__}", "exec"), vars(copy))
    return copy


def planted(mutant: Mutant) -> ModuleType:
    """The reference model with the bug in it."""
    if mutant.algorithm is None:
        return twin(reference, mutant.line, mutant.instead)
    model = twin(reference)
    real = reference.ALGORITHMS[mutant.algorithm]
    model.ALGORITHMS[mutant.algorithm] = twin(real, mutant.line, mutant.instead)
    return model


PATCHES: dict[Algorithm | None, str] = {
    TOKEN: """
full one unit early
- tat - now > limit.tolerance
+ tat - now >= limit.tolerance

one token too many
- tat - now > limit.tolerance
+ tat - now > limit.tolerance + limit.emission_interval

saves up while idle
- tat = max(state.tat, now) + cost
+ tat = state.tat + cost

retry a unit late
- - limit.tolerance,
+ - limit.tolerance + 1,

retry a unit early
- - limit.tolerance,
+ - limit.tolerance - 1,

fresh a unit early
- fresh_at=max(after.tat, now)
+ fresh_at=max(after.tat - 1, now)

remaining rounded up
- max(room, 0) // limit.emission_interval
+ -(-max(room, 0) // limit.emission_interval)

debt a unit too deep
- min(wanted, now + 2 * limit.tolerance)
+ min(wanted, now + 2 * limit.tolerance + 1)

debt without end
- min(wanted, now + 2 * limit.tolerance)
+ wanted

a debit lowers a debt
- max(state.tat, min(wanted, now + 2 * limit.tolerance))
+ min(wanted, now + 2 * limit.tolerance)

a refund one short
- state.tat - cost * limit
+ state.tat - (cost - 1) * limit

a debt rounded down
- debt = -(-max(state.tat - was, 0)
+ debt = (max(state.tat - was, 0)

a debt cut to one capacity
- min(debt, 2 * new.tolerance)
+ min(debt, new.tolerance)
""",
    LEAKY: """
its own turn counted in the delay
- max(before.tat, now)
+ max(after.tat, now)
""",
    FIXED: """
full one call early
- current + cost > limit.capacity
+ current + cost >= limit.capacity

one call too many
- current + cost > limit.capacity
+ current + cost > limit.capacity + 1

window ends late
- + 1, limit)
+ + 2, limit)

every fourth year leaps
- year // 4 - year // 100
+ year // 4

no century leaps
- - year // 100 + year // 400
+ - year // 100

the fifth month is short
- (153 * month + 2) // 5
+ (153 * month + 1) // 5

months of 31 days
- while days_before_month(months + 1) <= days
+ while 31 * (months + 1) <= days

a step back begins a window
- (distance == INDEX_MASK and not empty)
+ False

a fresh key belongs to the next window
- == INDEX_MASK and not empty
+ == INDEX_MASK

a far step back gives budget
- index & INDEX_MASK, state.previous, state.current
+ index & INDEX_MASK, 0, 0

a step back of 2^17 windows is not seen
- if distance >= AHEAD:
+ if distance > AHEAD:

an old window is a step back
- if distance >= AHEAD:
+ if distance >= AHEAD - 1:

a window debt too deep
- min(current + cost, 2 * limit.capacity)
+ min(current + cost, 2 * limit.capacity + 1)

a window refund below zero
- max(current - cost, 0)
+ current - cost

a count cut to one capacity
- min(current, 2 * new.capacity)
+ min(current, new.capacity)

other edges taken for the same
- new.months, now)
+ new.months, was)
""",
    None: """
weeks begin on Thursday
- return now_ns + self.parameters.offset
+ return now_ns

its own time begins late
- PAST_NS = 2**57
+ PAST_NS = 2**56

waits rounded down
- self.base(now_ns) - (-instant * 2**64 //
+ self.base(now_ns) + (instant * 2**64 //

2 parts in a million slow
- self.parameters = limit.parameters()
+ self.parameters = limit.parameters()._replace(multiplier=(limit.parameters().multiplier or 2**64) - 2**45)

a peek charges
- charging=False)
+ charging=True)

no step back is settled
- state = self.states[key] = self.algorithm.settle(
+ self.algorithm.settle(

a limit that passes binds
- binding = max(decisions
+ binding = min(decisions

the last of equals binds
- binding = min(decisions
+ binding = min(decisions[::-1]

the largest remaining shown
- remaining=min(
+ remaining=max(

the shortest reset shown
- reset_after_ns=max(
+ reset_after_ns=min(

a refused call charges those that fit
- charging = charging and all(
+ charging = charging and any(

a delay beside a refusal
- for decision in decisions) if allowed else 0
+ for decision in decisions)

the same key twice counts once
- costs.get((limiter, key), 0) + cost
+ cost

a cost of 0 is refused in debt
- return True, before, before
+ pass

floats rounded to nearest
- nearest if Fraction(nearest) >= Fraction(ns, SECOND) else math.nextafter(nearest, math.inf)
+ nearest
""",
    FIRST: """
over one unit late
- now >= state.start
+ now > state.start

full one call early
- current + cost > limit.capacity
+ current + cost >= limit.capacity

one call too many
- current + cost > limit.capacity
+ current + cost > limit.capacity + 1

window never moves
- State(now, 0) if
+ State(state.start, 0) if

a first debt too deep
- min(current + cost, 2 * limit.capacity)
+ min(current + cost, 2 * limit.capacity + 1)

other units taken for the same
- (new.window, now)
+ (new.window, was)
""",
    SLIDING: """
full one part early
- > limit.capacity * limit.window
+ >= limit.capacity * limit.window

previous window forgotten
- return state.previous * (limit.window - elapsed)
+ return 0

previous window in full
- elapsed = max(now - start_of(state, now, limit), 0)
+ elapsed = 0

negative time in a window to come
- max(now - start_of(state, now, limit), 0)
+ now - start_of(state, now, limit)

retry a tick early
- limit.window - room * limit.window // previous if
+ limit.window - 1 - room * limit.window // previous if

retry a tick late
- limit.window - room * limit.window // previous if
+ limit.window - (room * limit.window - 1) // previous if

remaining rounded up
- state.current - -(-in_sight(state, now, limit) // limit.window)
+ state.current - in_sight(state, now, limit) // limit.window

fresh a window early
- end + limit.window if state.current
+ end if state.current

refund from this window only
- max(previous - rest, 0)
+ previous

estimate rounded down
- rolled.current - (-in_sight(rolled, was, old) // old.window)
+ rolled.current + in_sight(rolled, was, old) // old.window
""",
    LOG: """
a unit leaves one tick late
- instant + limit.window > at
+ instant + limit.window >= at

one call too many
- len(log) + cost > limit.capacity
+ len(log) + cost > limit.capacity + 1

a cost above one is one unit
- return True, State(at, log + (at,) * cost)
+ return True, State(at, log + (at,))

time in a log runs back
- return max(now, state.newest, 1)
+ return max(now, 1)

a cost waits for the oldest unit only
- log[must_leave - 1] + limit.window
+ log[0] + limit.window

fresh when the log is empty
- state.newest == 0 or state.newest + limit.window <= now
+ not inside(state, now, limit)

a debt of one capacity only
- max(2 * limit.capacity - len(log), 0)
+ max(limit.capacity - len(log), 0)

a debt a unit too deep
- max(2 * limit.capacity - len(log), 0)
+ max(2 * limit.capacity - len(log) + 1, 0)

a debit that logs nothing takes time
- State(at, log + (at,) * charged) if charged else state
+ State(at, log + (at,) * charged)

a refund takes the oldest units
- state.log[: len(state.log) - cost]
+ state.log[cost:]

a refund one short
- state.log[: len(state.log) - cost]
+ state.log[: len(state.log) - cost + 1]

a refund takes no time
- State(state.newest + 1,
+ State(state.newest,

a refund of all is not fresh
- fresh() if owed else state
+ State(state.newest + 1, ()) if owed else state
""",
}


def read(algorithm: Algorithm | None, patch: str) -> Iterator[Mutant]:
    for entry in patch.strip().split("\n\n"):
        what, line, instead = entry.split("\n")
        yield Mutant(what, algorithm, line.removeprefix("- "), instead.removeprefix("+ "))


MUTANTS = [mutant for algorithm, patch in PATCHES.items() for mutant in read(algorithm, patch)]
