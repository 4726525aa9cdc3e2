"""Two threads on two cores, without the GIL: decisions a second against one, and a shared dict's get."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterable
from itertools import repeat
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from . import targets
from .compiled import cache_directory, sources_digest
from .harness import ROOT, Unavailable, last_line, pin, run_child, summarize
from .rows import Row, missing_rows, value_row

INTERPRETERS = ("python3.14t", "python3.13t")
VARIABLE = "FASTLIMIT_FREE_THREADED_PYTHON"
GENERATED = shutil.ignore_patterns("*.so", "*.c", "*.html", "__pycache__", "build", "*.egg-info")
KEYS_PER_THREAD = 64

Bind = Callable[[list[str]], tuple[list[str], Callable[[str], object]]]

WANTED = {
    "free-threaded: allow, two threads over one": targets.TWO_THREADS_TO_ONE,
    "free-threaded: shared dict.get, two threads over one": None,
}


def find_interpreter(named: str | None) -> str:
    """The free-threaded Python to use. Raises Unavailable if there is none, or if the named one has a GIL."""
    candidates = (
        [named or os.environ.get(VARIABLE)] if named or os.environ.get(VARIABLE) else list(INTERPRETERS)
    )
    for candidate in candidates:
        path = shutil.which(str(candidate))
        if path is None:
            continue
        code = "import sys; print(getattr(sys, '_is_gil_enabled', lambda: True)())"
        if (
            subprocess.run([path, "-c", code], capture_output=True, text=True, check=False).stdout.strip()
            == "False"
        ):
            return path
    raise Unavailable(
        f"no free-threaded Python among {', '.join(map(str, candidates))};"
        f" name one with --free-threaded or {VARIABLE}"
    )


def command(arguments: list[str], directory: Path, timeout: float = 600) -> None:
    try:
        done = subprocess.run(
            arguments, cwd=directory, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{arguments[0]} took over {timeout:g} s") from None
    if done.returncode:
        raise Unavailable(f"building for the free-threaded Python: {last_line(done.stderr or done.stdout)}")


def build(interpreter: str) -> tuple[str, Path]:
    """A copy of the project, built in place for `interpreter` (or built before): its Python, and the copy."""
    digest = sources_digest(interpreter, "fastlimit/**/*.p*", "bench/*.py", "setup.py", "pyproject.toml")
    directory = cache_directory() / "free-threaded"
    copy, python, stamp = directory / "project", directory / "venv" / "bin" / "python", directory / "digest"
    if stamp.exists() and stamp.read_text() == digest:
        return str(python), copy
    shutil.rmtree(directory, ignore_errors=True)
    copy.mkdir(parents=True)
    for package in ("fastlimit", "bench"):
        shutil.copytree(ROOT / package, copy / package, ignore=GENERATED)
    for path in filter(Path.is_file, ROOT.iterdir()):
        shutil.copy(path, copy)
    with (ROOT / "pyproject.toml").open("rb") as file:
        requirements: list[str] = tomllib.load(file)["build-system"]["requires"]
    command([interpreter, "-m", "venv", str(directory / "venv")], directory)
    command([str(python), "-m", "pip", "install", "--quiet", *requirements], directory)
    command([str(python), "setup.py", "--quiet", "build_ext", "--inplace"], copy)
    stamp.write_text(digest)
    return str(python), copy


def keys_of(place: int) -> list[str]:
    """New strings: a thread's own keys."""
    return [f"thread {place} key {number}" for number in range(KEYS_PER_THREAD)]


def loop(steps: Iterable[object], keys: list[str], decide: Callable[[str], object]) -> None:
    for _ in steps:
        for key in keys:
            decide(key)


def elapsed(threads: int, passes: int, bind: Bind, on: list[int]) -> float:
    """Nanoseconds from the first thread's start to the last one's end, each on a core with keys of its own.

    A thread makes its keys and binds the callee itself: counting references to another thread's objects is
    what does not scale in such a Python. The dict's keys are interned, hence never counted: its best case.
    """
    start_line = threading.Barrier(threads)
    spans: list[tuple[int, int]] = []

    def work(place: int) -> None:
        pin(on[place])
        keys, decide = bind(keys_of(place))
        loop(repeat(None, 10), keys, decide)
        start_line.wait(timeout=60)
        start = perf_counter_ns()
        loop(repeat(None, passes), keys, decide)
        spans.append((start, perf_counter_ns()))

    workers = [threading.Thread(target=work, args=(place,)) for place in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return max(end for _, end in spans) - min(start for start, _ in spans)


def measure(rounds: int, passes: int, two_cores: list[int]) -> dict[str, Any]:
    """Decisions a second (millions) with one and with two threads; runs in the free-threaded interpreter."""
    from fastlimit import Limiter, TokenBucket

    if getattr(sys, "_is_gil_enabled", lambda: True)():
        raise RuntimeError("importing fastlimit switched the GIL on")
    limiter = Limiter(TokenBucket("1M/s", burst=10**9))
    table = {sys.intern(key): True for place in range(2) for key in keys_of(place)}
    binds: dict[str, Bind] = {
        "allow": lambda keys: (keys, limiter.allow),
        "dict.get": lambda keys: (
            [sys.intern(key) for key in keys],
            table.get,
        ),  # others' keys cost it microseconds
    }
    found: dict[str, dict[str, list[float]]] = {name: {"1": [], "2": []} for name in binds}
    for _ in range(rounds):
        for name, bind in binds.items():
            for threads in (1, 2):
                calls = threads * passes * KEYS_PER_THREAD
                found[name][str(threads)].append(calls * 1e3 / elapsed(threads, passes, bind, two_cores))
    return {"python": sys.version, "millions a second": found}


def rows_of(found: dict[str, dict[str, list[float]]]) -> list[Row]:
    rows = []
    for name, (what, target) in zip(found, WANTED.items(), strict=True):
        one, two = found[name]["1"], found[name]["2"]
        ratios = [double / single for single, double in zip(one, two, strict=True)]
        rows.append(value_row(f"free-threaded: {name}, one thread", "M/s", one))
        rows.append(
            Row(what, "M/s", summarize(two), ratio=summarize(ratios), against="one thread", target=target)
        )
    return rows


def run(
    rounds: int, passes: int, named: str | None, available: list[int]
) -> tuple[list[Row], dict[str, Any]]:
    """Builds the project for a free-threaded Python and measures there, if there are one and two cores."""
    try:
        if len(available) < 2:
            raise Unavailable("two cores are needed")
        interpreter = find_interpreter(named)
        python, copy = build(interpreter)
        found = run_child("bench.threads", rounds, passes, available[:2], python=python, directory=copy)
    except Unavailable as error:
        return missing_rows(WANTED.items(), error), {}
    return rows_of(found["millions a second"]), found


if __name__ == "__main__":
    print(json.dumps(measure(*(json.loads(argument) for argument in sys.argv[1:]))))
