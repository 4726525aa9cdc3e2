"""Scenes of a limiter's life, each played in an interpreter of its own by `tests/test_lifecycle.py`.

A scene is a function that brings about what its name says and calls `go()`; from then on it has its bound to
end, with status 0 and nothing on stderr. With `done()` it says that it has checked everything, and how much
it provoked. To add a scene, write it into the module it belongs to; a new module is named in `__main__.py`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple, NoReturn

from fastlimit import Limiter
from fastlimit.testing import ManualClock

BOUND_S = 2.0
START_S = 2.0
"""For each interpreter that a scene starts after `go()`."""

KEY = "k"
BATCH = [KEY] * 4_096
"""Enough that a fork, a signal or an exit falls into it."""


class Scene(NamedTuple):
    act: Callable[[], None]
    bound_s: float


SCENES: dict[str, Scene] = {}
"""By `module.function`."""


def scene(*, starts: int = 0) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def add(act: Callable[[], None]) -> Callable[[], None]:
        name = f"{act.__module__.rpartition('.')[2]}.{act.__name__}"
        SCENES[name] = Scene(act, BOUND_S + starts * START_S)
        return act

    return add


def say(word: str, **counts: object) -> None:
    os.write(1, f"{word} {json.dumps(counts)}\n".encode())


def go() -> None:
    """The clock starts."""
    say("go")


DONE = b"done {}\n"
"""For scenes whose end is written when there is no `json` any more."""


def done(**counts: object) -> None:
    """Everything was checked; counts show that what the scene is about did happen."""
    say("done", **counts)


# --- limiters whose counts are known


def ample() -> Limiter:
    """With room for whatever a scene does, at a time that stands still: what is charged stays charged."""
    return Limiter("1000M/h burst 1000M", clock=ManualClock(60.0))


def charged(limiter: Limiter) -> int:
    look = limiter.peek(KEY)
    return look.limit - look.remaining


def check_counts(limiter: Limiter, calls: int) -> None:
    assert (calls, calls, 0) == (charged(limiter), limiter.stats().allowed, limiter.stats().denied)


@contextmanager
def refused(kind: type[Exception], words: str) -> Iterator[None]:
    try:
        yield
    except kind as error:
        if words not in str(error):
            raise
    else:
        raise AssertionError(f"no {kind.__name__}: {words}")


# --- signals


class Interrupt(Exception):
    """Raised by a signal handler."""


def interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupt


# --- processes and threads


def fork(act: Callable[[], object]) -> int:
    """A child that does this and nothing more."""
    child = os.fork()
    if child == 0:
        leave_after(act)
    return child


def leave_after(act: Callable[[], object]) -> NoReturn:
    status = 1
    try:
        act()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def wait_for(*children: int) -> None:
    for child in children:
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Crew:
    """Threads in a loop of calls."""

    def __init__(self, work: Callable[[], object], threads: int = 4, *, daemon: bool = True) -> None:
        self.work, self.stopped, self.rounds = work, threading.Event(), [0] * threads
        self.under_way = [threading.Event() for _ in range(threads)]
        self.threads = [
            threading.Thread(target=self.loop, args=(number,), daemon=daemon) for number in range(threads)
        ]
        for thread in self.threads:
            thread.start()
        for event in self.under_way:
            event.wait()

    def loop(self, number: int) -> None:
        while not self.stopped.is_set():
            self.work()
            self.rounds[number] += 1
            self.under_way[number].set()

    def stop(self) -> int:
        """How many rounds they made."""
        self.stopped.set()
        for thread in self.threads:
            thread.join()
        return sum(self.rounds)


@contextmanager
def crew(work: Callable[[], object], threads: int = 4) -> Iterator[Crew]:
    working = Crew(work, threads)
    try:
        yield working
    finally:
        working.stop()
