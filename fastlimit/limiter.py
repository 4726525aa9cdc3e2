"""What the compiled Limiter leaves to Python: reading its arguments, and the figures it gives.

`Limiter` itself is compiled, not a Python class over a compiled one: CPython's specialised method call wants
the exact type that defines the method, and without it each call took a third longer.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple

from ._core import Bucket, Decision, Limiter, ManualClock, install, log_bytes_for
from .errors import InvalidLimit
from .estimate import earliest_ns
from .limits import Algorithm, Limit, Parameters, limits_from
from .rates import shown

__all__ = ["Key", "Limiter", "Stats"]

Key = str | bytes | tuple[str | bytes, ...]
WHEN_FULL = {"share": 0, "deny": 1, "allow": 2}
MAX_KEYS = 2**30
MOST_KEYS_BY_DEFAULT = 65_536
FEWEST_KEYS_BY_DEFAULT = 16
LOG_BYTES_BY_DEFAULT = 2**25
FOREVER_NS = 2**63 - 1


class Stats(NamedTuple):
    """Totals of a limiter since it was built; they survive that keys come and go.

    allowed, denied  calls, each once however many limits it met; peeks, debits and refunds are not counted
    keys             keys that owe anything now (a scan); of several limits, the limit with the most
    max_keys         what the limiter was built for
    full_events      charges that found no free slot and went to `when_full`
    clamped_debits   debits that met the bottom, twice the capacity
    lost_on_full     refunds and resets of keys that had no slot of their own, and did nothing
    table_bytes      address space of the tables; what keys never touched takes no memory
    log_bytes        the same of the logs of sliding logs
    waiting          calls that wait for their turn now
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
    log_bytes: int
    waiting: int


class Change(NamedTuple):
    """Checked arguments of an update, as the compiled class wants them."""

    limits: tuple[Limit, ...]
    parameters: tuple[Parameters, ...]
    names: tuple[str, ...]


class Plan(NamedTuple):
    """Checked arguments of a limiter; as of an update, and what does not change."""

    limits: tuple[Limit, ...]
    parameters: tuple[Parameters, ...]
    names: tuple[str, ...]
    max_keys: int
    when_full: int


def plan(
    limit: str | Limit | Sequence[str | Limit],
    name: str | None,
    max_keys: int | None,
    when_full: str,
    clock: ManualClock | None,
    top: bool,
    max_log_bytes: int,
) -> Plan:
    """Check the arguments of a limiter."""
    limits = limits_from(limit)
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name must be a str or None, not {type(name).__name__}")
    if when_full not in tuple(WHEN_FULL):  # which hashes nothing that a caller may have given
        raise ValueError(f"when_full must be 'share', 'deny' or 'allow', not {when_full!r}")
    if clock is not None and not isinstance(clock, ManualClock):
        raise TypeError(f"clock must be a fastlimit.testing.ManualClock or None, not {type(clock).__name__}")
    if type(top) is not bool:
        raise TypeError(f"top must be a bool, not {type(top).__name__}")
    parameters = tuple(one.parameters() for one in limits)
    keys = checked_max_keys(max_keys, parameters)
    check_log(parameters, keys, max_log_bytes)
    return Plan(limits, parameters, limit_names(name, limits), keys, WHEN_FULL[when_full])


def checked_max_keys(max_keys: int | None, parameters: tuple[Parameters, ...]) -> int:
    if max_keys is None:
        keys = MOST_KEYS_BY_DEFAULT
        while keys > FEWEST_KEYS_BY_DEFAULT and log_bytes(parameters, keys) > LOG_BYTES_BY_DEFAULT:
            keys //= 2
        return keys
    if type(max_keys) is not int:
        raise TypeError(f"max_keys must be an int or None, not {type(max_keys).__name__}")
    if not 1 <= max_keys <= MAX_KEYS:
        raise ValueError(f"max_keys must be from 1 to 2^30, not {shown(max_keys)}")
    return max_keys


def log_bytes(parameters: tuple[Parameters, ...], max_keys: int) -> int:
    return sum(log_bytes_for(one, max_keys) for one in parameters)


def check_log(parameters: tuple[Parameters, ...], max_keys: int, max_log_bytes: int) -> None:
    if type(max_log_bytes) is not int:
        raise TypeError(f"max_log_bytes must be an int, not {type(max_log_bytes).__name__}")
    if max_log_bytes < 0:
        raise ValueError(f"max_log_bytes must be 0 or more, not {shown(max_log_bytes)}")
    needed = log_bytes(parameters, max_keys)
    if needed > max_log_bytes:
        raise ValueError(
            f"the log of a SlidingLog for max_keys={max_keys:,} takes {needed:,} bytes of address space,"
            f" above max_log_bytes={shown(max_log_bytes)}; lower max_keys or its count,"
            " or raise max_log_bytes"
        )


def change(
    limit: str | Limit | Sequence[str | Limit],
    name: str | None,
    replaced: tuple[Limit, ...],
    rooms: Sequence[int],
) -> Change:
    """Check what `update` is to change a limiter to; `rooms`: units that each log has room for."""
    limits = limits_from(limit)
    parameters = tuple(one.parameters() for one in limits)
    check_same_algorithms(replaced, parameters)
    for old, new, room in zip(replaced, parameters, rooms, strict=True):
        if new.algorithm == Algorithm.SLIDING_LOG:
            check_same_log(old, new, room)
    return Change(limits, parameters, limit_names(name, limits))


def check_same_log(old: Limit, new: Parameters, room: int) -> None:
    if new.window != old.parameters().window:
        raise InvalidLimit(
            f"update keeps the window of a sliding log, {old}: it holds the instants of that one only;"
            " build another limiter for another window"
        )
    if new.capacity > room:
        raise InvalidLimit(
            f"update: this sliding log has room for a count of {room:,}, not {new.capacity:,};"
            " build another limiter for more"
        )


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


def timeout_ns(timeout: object) -> int:
    """A timeout in seconds as whole nanoseconds."""
    if timeout is None:
        return FOREVER_NS
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout must be a number of seconds or None, not {type(timeout).__name__}")
    if not timeout >= 0:
        given = shown(timeout) if isinstance(timeout, int) else timeout
        raise ValueError(f"timeout must be 0 or more seconds, not {given}; None waits as long as it takes")
    if timeout >= FOREVER_NS / 10**9:
        return FOREVER_NS
    whole = int(timeout)
    return whole * 10**9 + round((timeout - whole) * 10**9)


def wait_async(bucket: Bucket, cost: int, timeout_ns: int) -> Coroutine[Any, Any, Decision]:
    from . import (
        waiting,
    )  # not before somebody needs it: asyncio takes longer to import than all of fastlimit

    return waiting.wait_async(bucket, cost, timeout_ns)


def install_all() -> None:
    """With a new lock for updates; in a forked child too, whose copy of the old one may be held by nobody."""
    install(plan, change, Stats, timeout_ns, earliest_ns, wait_async, threading.Lock())


install_all()
os.register_at_fork(after_in_child=install_all)
