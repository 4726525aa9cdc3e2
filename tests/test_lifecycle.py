"""Limiters where processes fork, end, are interrupted or run out of something: scenes in `tests/lifecycle`.

Each is played in an interpreter of its own. From its `go` on it has its bound to end, with all that it
started; then its status is 0, stderr is empty, and its last word is `done`, after its own checks.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import lifecycle.__main__
import pytest
from lifecycle import BOUND_S, SCENES
from scale import by_mode

pytestmark = pytest.mark.lifecycle

TESTS = Path(__file__).resolve().parent
TIMES = by_mode(1, quick=2, full=25)
UNTIL_GO_S = 60.0
PLANTED = [name for name in SCENES if name.startswith("planted.")]
PLAYED = [name for name in SCENES if name not in PLANTED]


class Outcome(NamedTuple):
    hung: bool
    status: int
    words: list[str]
    stderr: str
    seconds: float
    """From `go` to the end."""
    counts: dict[str, Any]

    @property
    def faults(self) -> list[str]:
        return [
            *["hung"] * self.hung,
            *[f"status {self.status}"] * (self.status != 0 and not self.hung),
            *[f"words: {' '.join(self.words)}"] * (self.words != ["go", "done"] and not self.hung),
            *[f"stderr: {self.stderr}"] * bool(self.stderr),
        ]


def play(name: str, until_go_s: float = UNTIL_GO_S) -> Outcome:
    process = subprocess.Popen(
        [sys.executable, "-m", "lifecycle", name],
        bufsize=0,  # so that nothing after `go` is read before its time begins
        cwd=TESTS,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    watch = threading.Timer(until_go_s, kill_all, [process])
    watch.start()
    first = process.stdout.readline()
    started = time.monotonic()
    watch.cancel()
    hung = False
    try:
        out, err = process.communicate(timeout=SCENES[name].bound_s)
    except subprocess.TimeoutExpired:
        hung = True
        kill_all(process)
        out, err = process.communicate()
    seconds = time.monotonic() - started
    lines = [line.split(" ", 1) for line in (first + out).decode().splitlines()]
    counts = json.loads(lines[-1][1]) if lines else {}
    return Outcome(
        hung or not first, process.returncode, [line[0] for line in lines], err.decode(), seconds, counts
    )


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """With its children: they hold the pipes."""
    os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def longest() -> Iterator[dict[str, float]]:
    """The times of all scenes, of which the longest is printed beside the bound."""
    times: dict[str, float] = {}
    yield times
    if times:
        name = max(times, key=lambda name: times[name] / SCENES[name].bound_s)
        bound = f"{times[name]:.2f} s of {SCENES[name].bound_s} s"
        print(f"{len(times)} scenes; nearest to its bound: {name}, {bound}")


@pytest.mark.parametrize("name", PLAYED)
def test_a_scene(name: str, longest: dict[str, float], evidence: Callable[..., None]) -> None:
    outcomes = [play(name) for _ in range(TIMES)]
    seconds = longest[name] = max(outcome.seconds for outcome in outcomes)
    bound_s = SCENES[name].bound_s
    print(f"{name}: at most {seconds:.2f} s; bound: {bound_s} s")
    evidence(times=TIMES, longest_s=round(seconds, 3), bound_s=bound_s, **outcomes[-1].counts)
    assert [[]] * TIMES == [outcome.faults for outcome in outcomes]
    assert seconds <= bound_s


def test_there_are_scenes_of_every_kind() -> None:
    modules = {name.partition(".")[0] for name in PLAYED}
    assert {"endings", "forks", "objects", "shortages", "signals", "waits"} == modules
    assert len(PLAYED) >= 50
    assert {module.__name__ for module in lifecycle.__main__.MODULES} == {
        f"lifecycle.{path.stem}" for path in (TESTS / "lifecycle").glob("*.py") if "__" not in path.stem
    }


# --- controls: what the harness must notice

FAULTS = {
    "hang": "hung",
    "hang_before_go": "hung",
    "thread_that_stays": "hung",
    "child_that_stays": "hung",
    "crash": f"status {-signal.SIGSEGV}",
    "word_on_stderr": "stderr: by the way",
    "error_in_del": "stderr: Exception ignored",
    "lost_count": "AssertionError",
    "wrong_in_a_child": "AssertionError",
    "end_before_the_check": "words: go",
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_noticed(name: str) -> None:
    outcome = play(name, until_go_s=BOUND_S)
    assert any(FAULTS[name.partition(".")[2]] in fault for fault in outcome.faults), outcome
