"""Resident memory: a million keys, a flood of new ones, a small limiter; each in a fresh process."""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from . import targets
from .harness import Unavailable, compile_loop, run_child
from .peers import PEERS, installed
from .rows import NOT_INSTALLED, Row, missing_rows, value_row
from .targets import Target

STATM = Path("/proc/self/statm")
MEGABYTE = 1_000_000
MILLION = 1_000_000
CAPACITY = 65_536
FLOOD = 100  # times the capacity
SLOW_RATE = "864/day burst 1400000"  # a hit is owed for 100 s: no key gives its slot back meanwhile
COMPARED = ("floodgate-rs", "rust-py-rate-limit fixed", "limits fixed")
LOG_RING = 512  # entries of a log of 128
PEER_LIMIT, PEER_PERIOD = 1_000, 3_600


def resident_bytes() -> int:
    """Resident set of this process. Raises Unavailable where there is no /proc."""
    if not STATM.exists():
        raise Unavailable("resident memory is read from /proc, which this system has not")
    gc.collect()
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def keys(start: int, count: int) -> Iterator[str]:
    """Fresh strings, one at a time: whoever wants to keep one pays for it."""
    for number in range(start, start + count):
        yield f"user:{number:09d}"


def fastlimit_fill(count: int) -> float:
    """Bytes a key at `count` keys, table and limiter included."""
    from fastlimit import Limiter

    before = resident_bytes()
    limiter = Limiter(SLOW_RATE, max_keys=count, top=False)
    compile_loop("limiter.allow(key)", {"limiter": limiter}, over="key")(keys(0, count))
    return (resident_bytes() - before) / count


def peer_fill(name: str, count: int) -> float:
    """The same of a peer."""
    peer = PEERS[name]
    loop = compile_loop(peer.statement, peer.make(PEER_LIMIT, PEER_PERIOD), over="key")
    before = resident_bytes()
    loop(keys(0, count))
    return (resident_bytes() - before) / count


def flood(times: int) -> float:
    """Megabytes that a full limiter grows by while `times` its capacity of new keys come."""
    from fastlimit import Limiter

    limiter = Limiter(SLOW_RATE, max_keys=CAPACITY)
    loop = compile_loop("limiter.allow(key)", {"limiter": limiter}, over="key")
    loop(keys(0, 2 * CAPACITY))
    before = resident_bytes()
    loop(keys(2 * CAPACITY, times * CAPACITY))
    return (resident_bytes() - before) / MEGABYTE


def log_entry(keys_in_use: int) -> float:
    """Bytes an entry of sliding logs whose rings are written all around, table and limiter included."""
    from fastlimit import Limiter
    from fastlimit.testing import ManualClock

    before = resident_bytes()
    clock = ManualClock(1_000.0)
    limiter = Limiter("sliding-log 128/s", clock=clock, max_keys=keys_in_use, top=False)
    for _ in range(LOG_RING // 128):
        clock.advance(1.0)
        for key in keys(0, keys_in_use):
            limiter.acquire(key, 128)
    return (resident_bytes() - before) / (keys_in_use * LOG_RING)


def small_limiter(key_count: int) -> float:
    """Megabytes for `Limiter("10/s")` and its first keys, everything that it builds lazily included."""
    from fastlimit import Limiter

    before = resident_bytes()
    limiter = Limiter("10/s")
    for key in keys(0, key_count):
        limiter.allow(key)
    return (resident_bytes() - before) / MEGABYTE


MEASURES: dict[str, Callable[..., float]] = {
    measure.__name__: measure for measure in (fastlimit_fill, peer_fill, flood, log_entry, small_limiter)
}


def row(what: str, unit: str, target: Target | None, repeats: int, measure: str, *arguments: object) -> Row:
    """One figure, from `repeats` processes."""
    try:
        values = [float(run_child("bench.memory", measure, *arguments)) for _ in range(repeats)]
    except Unavailable as error:
        return missing_rows([(what, target)], error)[0]
    return value_row(what, unit, values, target)


def peer_row(name: str, repeats: int) -> Row:
    what = f"{name}, RSS a key at 1M keys"
    if installed(PEERS[name]) is None:
        return missing_rows([(what, None)], NOT_INSTALLED)[0]
    return row(what, "B", None, repeats, "peer_fill", name, MILLION)


def run(repeats: int, peers: Sequence[str] = COMPARED) -> tuple[list[Row], dict[str, Any]]:
    """All rows, each the median of `repeats` processes."""
    return [
        row(
            "fastlimit, RSS a key at 1M keys", "B", targets.BYTES_PER_KEY, repeats, "fastlimit_fill", MILLION
        ),
        *(peer_row(name, repeats) for name in peers),
        row(
            f"RSS growth, {FLOOD} x the capacity of new keys",
            "MB",
            targets.FLOOD_GROWTH_MB,
            repeats,
            "flood",
            FLOOD,
        ),
        row('Limiter("10/s") with 10 keys', "MB", targets.SMALL_LIMITER_MB, repeats, "small_limiter", 10),
    ], {}


if __name__ == "__main__":
    name, *values = (json.loads(argument) for argument in sys.argv[1:])
    print(json.dumps(MEASURES[name](*values)))
