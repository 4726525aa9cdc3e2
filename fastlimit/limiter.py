"""The limiter: limits in their text form or as objects, checked here, over the compiled engine."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ._core import Engine, ManualClock
from .errors import InvalidLimit
from .limits import Limit, limits_from

WHEN_FULL = {"share": 0, "deny": 1, "allow": 2}
MAX_KEYS = 2**30


@dataclass(frozen=True, slots=True)
class Stats:
    """Totals of a limiter since it was built; they survive that keys come and go.

    allowed, denied  calls, each once however many limits it met; peeks, debits and refunds are not counted
    keys             keys that owe anything now (a scan); of several limits, the limit with the most
    max_keys         what the limiter was built for
    full_events      charges that found no free slot and went to `when_full`
    clamped_debits   debits that met the bottom, twice the capacity
    lost_on_full     refunds and resets of keys that had no slot of their own, and did nothing
    table_bytes      address space of the tables; what keys never touched takes no memory
    """

    name: str | None
    allowed: int
    denied: int
    keys: int
    max_keys: int
    full_events: int
    clamped_debits: int
    lost_on_full: int
    table_bytes: int


class Limiter(Engine):
    """Enforces one or several limits on keys, in this process.

    limit      a text ("100/s burst 200", "10/s; 1000/h"), a limit object, or a list of them: all must allow a call
    name       what Decisions and statistics call it; with several limits, `name[i]`; default: the limit's text
    max_keys   keys that may owe at once, 1 to 2^30; 43 bytes each, touched as they come (default 65,536: 2.8 MB)
    when_full  for keys beyond that: "share" common buckets (default), "deny" or "allow" them; keys that owe stay
    clock      a ManualClock from `fastlimit.testing`, or None for the system's
    top        whether refused keys are remembered for `top()`

    Raises InvalidLimit for limits that cannot be read or enforced, ValueError and TypeError for other arguments,
    MemoryError if the table cannot be mapped.

    Thread-safety: every method may be called from any thread, and from signal handlers; calls take no lock but `update`.
    A child process starts with a copy of what its parent knew, and goes its own way.
    """

    __slots__ = ("_changing", "_limits", "_name", "_when_full")

    def __init__(
        self,
        limit: str | Limit | Sequence[str | Limit],
        *,
        name: str | None = None,
        max_keys: int = 65_536,
        when_full: Literal["share", "deny", "allow"] = "share",
        clock: ManualClock | None = None,
        top: bool = True,
    ) -> None:
        limits = limits_from(limit)
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a str or None, not {type(name).__name__}")
        if type(max_keys) is not int:
            raise TypeError(f"max_keys must be an int, not {type(max_keys).__name__}")
        if not 1 <= max_keys <= MAX_KEYS:
            raise ValueError(f"max_keys must be from 1 to 2^30, not {max_keys:,}")
        if when_full not in WHEN_FULL:
            raise ValueError(f"when_full must be 'share', 'deny' or 'allow', not {when_full!r}")
        if clock is not None and not isinstance(clock, ManualClock):
            raise TypeError(f"clock must be a fastlimit.testing.ManualClock or None, not {type(clock).__name__}")
        self._name = name
        self._limits = limits
        self._when_full = when_full
        self._changing = threading.Lock()
        super().__init__(
            tuple(one.parameters() for one in limits),
            limit_names(name, limits),
            max_keys=max_keys,
            when_full=WHEN_FULL[when_full],
            clock=clock,
            top=bool(top),
        )

    @property
    def name(self) -> str | None:
        """The name it was given."""
        return self._name

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits in force."""
        return self._limits

    def update(self, limit: str | Limit | Sequence[str | Limit]) -> None:
        """Change the numbers while calls go on: every key keeps what it owes, at most twice the new capacity.

        A bucket keeps its debt in tokens; a window keeps its count, in the window of now if its length changed. Number
        and algorithms must stay (ValueError): build another limiter for others. Threads that decide meanwhile decide by the
        old numbers or by the new ones. Concurrent updates wait for each other.
        """
        limits = limits_from(limit)
        parameters = tuple(one.parameters() for one in limits)
        with self._changing:
            was = [one.parameters().algorithm.name for one in self._limits]
            wanted = [one.algorithm.name for one in parameters]
            if was != wanted:
                raise InvalidLimit(
                    f"update keeps the algorithms: this limiter has {', '.join(was)}, not {', '.join(wanted)};"
                    " build another limiter for those"
                )
            self._update(parameters, limit_names(self._name, limits))
            self._limits = limits

    def stats(self) -> Stats:
        """Totals so far, as an immutable `Stats`; counts the keys by a scan of the table."""
        allowed, denied, keys, full_events, clamped_debits, lost_on_full, table_bytes = self._counts()
        return Stats(
            name=self._name,
            allowed=allowed,
            denied=denied,
            keys=keys,
            max_keys=self.max_keys,
            full_events=full_events,
            clamped_debits=clamped_debits,
            lost_on_full=lost_on_full,
            table_bytes=table_bytes,
        )

    def __repr__(self) -> str:
        text = "; ".join(map(str, self._limits))
        name = "" if self._name is None else f", name={self._name!r}"
        return f"<Limiter {text!r}{name}>"


def limit_names(name: str | None, limits: tuple[Limit, ...]) -> list[str]:
    """What Decisions call each limit."""
    if name is None:
        return [str(one) for one in limits]
    return [name] if len(limits) == 1 else [f"{name}[{i}]" for i in range(len(limits))]
