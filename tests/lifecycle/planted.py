"""Scenes that go wrong, each in one way that must be noticed."""

from __future__ import annotations

import os
import signal
import sys
import threading

from . import KEY, ample, check_counts, done, fork, go, scene


@scene()
def hang() -> None:
    go()
    threading.Event().wait()


@scene()
def hang_before_go() -> None:
    threading.Event().wait()


@scene()
def thread_that_stays() -> None:
    threading.Thread(target=threading.Event().wait).start()
    go()
    done()


@scene()
def child_that_stays() -> None:
    fork(threading.Event().wait)
    go()
    done()


@scene()
def crash() -> None:
    go()
    done()
    os.kill(os.getpid(), signal.SIGSEGV)


@scene()
def word_on_stderr() -> None:
    go()
    done()
    print("by the way", file=sys.stderr)


@scene()
def error_in_del() -> None:
    class Late:
        def __del__(self) -> None:
            raise ValueError("too late")

    sys.modules["__main__"].late = Late()  # type: ignore[attr-defined]
    go()
    done()


@scene()
def lost_count() -> None:
    """One call fewer than it says."""
    limiter = ample()
    go()
    for _ in range(99):
        limiter.allow(KEY)
    check_counts(limiter, 100)
    done()


@scene()
def wrong_in_a_child() -> None:
    limiter = ample()
    go()
    child = fork(lambda: check_counts(limiter, 1))
    os.waitpid(child, 0)
    done()


@scene()
def end_before_the_check() -> None:
    go()
    sys.stdout.flush()
    os._exit(0)
