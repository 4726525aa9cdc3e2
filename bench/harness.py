"""Timing: statements compiled into loops, rounds that visit every contender, ratios within a round."""

from __future__ import annotations

import gc
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
KEY = "user:000123"

SLICE_NS = 500_000  # well below what a scheduler gives to another process, so that most slices are whole

Loop = Callable[[Iterable[object]], int]


class Unavailable(Exception):
    """A contender or a section that cannot run here; the message is the reason to print."""


@dataclass(frozen=True)
class Contender:
    """A statement to time over and over.

    `statement` runs as written, with `names` as its local variables; one run of it makes `calls` decisions.
    Where `allowed` is given, `verdict`, an expression over the statement's value `r`, must agree with it.
    """

    name: str
    statement: str
    names: Mapping[str, object]
    calls: int = 1
    verdict: str = "r"
    allowed: bool | None = None


@dataclass
class Samples:
    """Nanoseconds per decision: for each contender one figure a round."""

    ns: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, ns: float) -> None:
        self.ns.setdefault(name, []).append(ns)

    def ratios(self, name: str, base: str) -> list[float]:
        """`name` in terms of `base`, round by round."""
        return [own / other for own, other in zip(self.ns[name], self.ns[base], strict=True)]


@dataclass(frozen=True)
class Summary:
    """Median and quartiles."""

    median: float
    low: float
    high: float


def summarize(values: Sequence[float]) -> Summary:
    """Median and (inclusive) quartiles of at least one value."""
    if len(values) == 1:
        return Summary(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Summary(median, low, high)


def compile_loop(statement: str, names: Mapping[str, object], over: str = "_") -> Loop:
    """A function that runs `statement` for each item (`over`) of its argument and returns the nanoseconds."""
    source = (
        f"def loop(_steps, _clock, {', '.join(names)}):\n"
        "    _start = _clock()\n"
        f"    for {over} in _steps:\n"
        f"        {statement}\n"
        "    return _clock() - _start\n"
    )
    namespace: dict[str, Any] = {}
    exec(compile(source, f"<bench: {statement}>", "exec"), namespace)
    loop = namespace["loop"]
    return lambda steps: int(loop(steps, perf_counter_ns, **names))


def check(contender: Contender, times: int = 50) -> None:
    """Raises RuntimeError unless the contender's statement answers as it should, `times` times."""
    if contender.allowed is None:
        return
    code = compile(contender.statement, f"<bench: {contender.name}>", "eval")
    for _ in range(times):
        answer = eval(code, dict(contender.names))
        if bool(eval(contender.verdict, {"r": answer})) is not contender.allowed:
            expected = "allowed" if contender.allowed else "denied"
            raise RuntimeError(
                f"{contender.name}: {contender.statement} should be {expected} but answered {answer!r}"
            )


@contextmanager
def collector_off() -> Iterator[None]:
    """No garbage collection inside."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def shortest(loop: Loop, steps: int) -> int:
    """The least of a few runs: one that nobody interrupted, most likely."""
    return min(loop(range(steps)) for _ in range(5))


def steps_for(loop: Loop, slice_ns: int) -> int:
    """How many steps of the loop last about `slice_ns`."""
    steps = 4
    elapsed = shortest(loop, steps)
    while elapsed < slice_ns // 8 and steps < 1 << 24:
        steps *= 4
        elapsed = shortest(loop, steps)
    return max(1, steps * slice_ns // max(elapsed, 1))


class Rounds:
    """Contenders with their loops compiled and calibrated, ready to be visited round by round."""

    def __init__(self, contenders: Sequence[Contender], slice_ns: int, seed: int = 7) -> None:
        self.contenders = contenders
        self.samples = Samples()
        self._random = random.Random(seed)
        self._runs: list[tuple[Contender, Loop, int]] = []
        for contender in contenders:
            loop = compile_loop(contender.statement, contender.names)
            loop(range(4))  # spends what an exhausted limit still grants
            check(contender)
            self._runs.append((contender, loop, steps_for(loop, slice_ns)))
        gc.collect()

    def visit(self) -> None:
        """One round: every contender once, warmed up, in a new order."""
        order = self._random.sample(self._runs, len(self._runs))
        with collector_off():
            for contender, loop, steps in order:
                loop(range(steps // 10 + 1))
                self.samples.add(contender.name, loop(range(steps)) / (steps * contender.calls))

    def finish(self) -> Samples:
        """The samples, once every statement still answers as it did at the start."""
        for contender in self.contenders:
            check(contender)
        return self.samples


def measure(contenders: Sequence[Contender], rounds: int, slice_ns: int = SLICE_NS) -> Samples:
    """Visits every contender in each of `rounds` rounds, about `slice_ns` at a time."""
    run = Rounds(contenders, slice_ns)
    for _ in range(rounds):
        run.visit()
    return run.finish()


def cores() -> list[int]:
    """The processor cores that this process may use, as far as the system tells."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def pin(*allowed: int) -> None:
    """Keeps the calling thread, and the processes that it starts, on these cores; does nothing for none."""
    if allowed:
        os.sched_setaffinity(0, allowed)


def last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else "no message"


def run_child(
    module: str,
    *arguments: object,
    python: str = sys.executable,
    directory: Path = ROOT,
    timeout: float = 600,
) -> Any:
    """What `python -m module ARGUMENTS` (each as JSON) prints, decoded. Raises Unavailable if it fails."""
    command = [python, "-m", module, *(json.dumps(argument) for argument in arguments)]
    try:
        done = subprocess.run(
            command, cwd=directory, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{module} took over {timeout:g} s") from None
    if done.returncode:
        raise Unavailable(last_line(done.stderr))
    return json.loads(done.stdout)
