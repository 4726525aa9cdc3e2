"""What the compiled Limiter leaves to Python: reading its arguments, and the figures it gives.

`Limiter` itself is compiled, not a Python class over a compiled one: CPython's specialised method call wants
the exact type that defines the method, and without it each call took a third longer.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import NamedTuple

from ._core import Limiter, ManualClock, install
from .errors import InvalidLimit
from .limits import Limit, Parameters, limits_from
from .rates import shown

__all__ = ["Key", "Limiter", "Stats"]

Key = str | bytes | tuple[str | bytes, ...]
WHEN_FULL = {"share": 0, "deny": 1, "allow": 2}
MAX_KEYS = 2**30


class Stats(NamedTuple):
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


class Plan(NamedTuple):
    """Checked arguments of a limiter, as the compiled class wants them."""

    limits: tuple[Limit, ...]
    parameters: tuple[Parameters, ...]
    names: tuple[str, ...]
    when_full: int


def plan(
    limit: str | Limit | Sequence[str | Limit],
    name: str | None,
    max_keys: int,
    when_full: str,
    clock: ManualClock | None,
    top: bool,
    replaced: tuple[Limit, ...] | None = None,
) -> Plan:
    """Check the arguments of a limiter, or of an update that replaces `replaced`."""
    limits = limits_from(limit)
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name must be a str or None, not {type(name).__name__}")
    if type(max_keys) is not int:
        raise TypeError(f"max_keys must be an int, not {type(max_keys).__name__}")
    if not 1 <= max_keys <= MAX_KEYS:
        raise ValueError(f"max_keys must be from 1 to 2^30, not {shown(max_keys)}")
    if when_full not in tuple(WHEN_FULL):  # which hashes nothing that a caller may have given
        raise ValueError(f"when_full must be 'share', 'deny' or 'allow', not {when_full!r}")
    if clock is not None and not isinstance(clock, ManualClock):
        raise TypeError(f"clock must be a fastlimit.testing.ManualClock or None, not {type(clock).__name__}")
    if type(top) is not bool:
        raise TypeError(f"top must be a bool, not {type(top).__name__}")
    parameters = tuple(one.parameters() for one in limits)
    if replaced is not None:
        check_same_algorithms(replaced, parameters)
    return Plan(limits, parameters, limit_names(name, limits), WHEN_FULL[when_full])


def check_same_algorithms(replaced: tuple[Limit, ...], parameters: tuple[Parameters, ...]) -> None:
    was = [one.parameters().algorithm.label for one in replaced]
    wanted = [one.algorithm.label for one in parameters]
    if was != wanted:
        raise InvalidLimit(
            f"update keeps the algorithms: this limiter has {', '.join(was)}, not {', '.join(wanted)};"
            " build another limiter for those"
        )


def limit_names(name: str | None, limits: tuple[Limit, ...]) -> tuple[str, ...]:
    """What Decisions call each limit."""
    if name is None:
        return tuple(map(str, limits))
    return (name,) if len(limits) == 1 else tuple(f"{name}[{i}]" for i in range(len(limits)))


def install_all() -> None:
    """With a new lock for updates; in a forked child too, whose copy of the old one may be held by nobody."""
    install(plan, Stats, threading.Lock())


install_all()
os.register_at_fork(after_in_child=install_all)
