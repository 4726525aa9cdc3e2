"""Tasks that wait: what each takes of the CPU from its call to its end, and how often it is woken.

Each round lets every contender admit 10,000 waiters who came at once, in a process of its own for each kind
of event loop. The floor is as many tasks that know beforehand when they are due, and sleep until then.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine, Generator
from time import process_time
from typing import Any

from fastlimit import Decision, Limiter

from . import targets
from .harness import KEY, Samples, Unavailable, run_child
from .rows import Row, missing_rows, timed_row, value_row

WAITERS = 10_000
FAST, SLOW = 20_000, 2_000  # a second
BURST_S = 0.01  # ten times what a loop's timers tell apart
SLEEP = "asyncio.sleep until due"
LOOPS = ("asyncio", "uvloop")


def limiter_of(rate: int) -> Limiter:
    return Limiter(f"{rate}/s burst {round(rate * BURST_S)}")


async def sleeping(rate: int) -> None:
    await asyncio.gather(*(asyncio.sleep(number / rate) for number in range(WAITERS)))


async def waiting(rate: int, keys: int = 1, timeout: float | None = None) -> None:
    limiter = limiter_of(rate // keys)
    calls = (limiter.wait_async(f"{KEY}:{number % keys}", 1, timeout) for number in range(WAITERS))
    if not all(await asyncio.gather(*calls)):
        raise RuntimeError("a call that had to wait was refused")


CONTENDERS: dict[str, tuple[Callable[..., Coroutine[Any, Any, None]], tuple[Any, ...]]] = {
    f"{SLEEP}, {FAST:,}/s": (sleeping, (FAST,)),
    f"wait_async on one key, {FAST:,}/s": (waiting, (FAST,)),
    f"wait_async on one key with a timeout, {FAST:,}/s": (waiting, (FAST, 1, 60.0)),
    f"wait_async on 100 keys, {FAST:,}/s": (waiting, (FAST, 100)),
    f"{SLEEP}, {SLOW:,}/s": (sleeping, (SLOW,)),
    f"wait_async on one key, {SLOW:,}/s": (waiting, (SLOW,)),
}


class Counted:
    """Awaits a call, and counts how often it is woken for that."""

    wake_ups = 0

    def __init__(self, call: Coroutine[Any, Any, Decision]) -> None:
        self.call = call

    def __await__(self) -> Generator[Any, None, Decision]:
        steps = self.call.__await__()
        while True:
            try:
                future = next(steps)
            except StopIteration as end:
                decision: Decision = end.value
                return decision
            yield future
            Counted.wake_ups += 1


async def counting(rate: int) -> float:
    async def call() -> Decision:
        return await Counted(limiter.wait_async(KEY))

    limiter = limiter_of(rate)
    await asyncio.gather(*(call() for _ in range(WAITERS)))
    waited = WAITERS - round(rate * BURST_S)  # the first find room
    return Counted.wake_ups / waited


def runner(loop: str) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    if loop == "asyncio":
        return asyncio.run
    import uvloop

    run: Callable[[Coroutine[Any, Any, Any]], Any] = uvloop.run
    return run


def child(loop: str, rounds: int) -> dict[str, Any]:
    """Microseconds of CPU for each waiter, round by round, and wake-ups."""
    run = runner(loop)
    samples: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name, (contender, values) in CONTENDERS.items():
            started = process_time()
            run(contender(*values))
            samples[name].append((process_time() - started) / WAITERS * 1e6)
    return {"samples": samples, "wake_ups": [run(counting(FAST))]}


def rows_of(loop: str, found: dict[str, Any]) -> tuple[list[Row], Samples]:
    samples = Samples({f"{loop}: {name}": ns for name, ns in found["samples"].items()})
    rows = []
    for name in samples.ns:
        base = f"{loop}: {SLEEP}, {name.rpartition(', ')[2]}"
        if name == base:
            rows.append(timed_row(samples, f"floor: {name}", name))
        else:
            target = targets.WAITER_US if f"{FAST:,}" in name else None
            rows.append(timed_row(samples, name, name, base, target))
    rows = [Row(row.what, "us", row.value, row.ratio, row.against, row.target) for row in rows]
    wake_ups = f"{loop}: wake-ups for each that waits on one key"
    return [*rows, value_row(wake_ups, "", found["wake_ups"], targets.WAKE_UPS)], samples


def run(rounds: int) -> tuple[list[Row], dict[str, list[float]]]:
    rows: list[Row] = []
    all_samples: dict[str, list[float]] = {}
    for loop in LOOPS:
        try:
            found = run_child("bench.waits", loop, rounds)
        except Unavailable as error:
            rows += missing_rows([(f"{loop}: {name}", targets.WAITER_US) for name in CONTENDERS], error)
            continue
        more, samples = rows_of(loop, found)
        rows += more
        all_samples |= samples.ns
    return rows, all_samples


if __name__ == "__main__":
    given = [json.loads(argument) for argument in sys.argv[1:]]
    print(json.dumps(child(*given)))
