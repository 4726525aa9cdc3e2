"""Forks in the worst moments, and the ways to start processes."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
from types import FrameType
from typing import Any, Literal

from fastlimit import Decision, Limiter
from fastlimit.testing import ManualClock

from . import BATCH, KEY, ample, charged, check_counts, crew, done, fork, go, refused, scene, wait_for


def use(limiter: Limiter) -> None:
    """Every kind of call in a child, each of which must count once."""
    before, counted = charged(limiter), limiter.stats().allowed
    assert limiter.allow(KEY)
    assert limiter.acquire(KEY, 2)
    assert limiter.bucket(KEY).allow()
    assert sum(limiter.allow_many(BATCH)) == len(BATCH)
    assert limiter.debit(KEY, 3).remaining + 1 == limiter.refund(KEY, 1).remaining
    assert limiter.allow("a key that the parent has not seen")
    limiter.top()
    assert before + 4 + len(BATCH) + 2 == charged(limiter)
    assert counted + 4 + len(BATCH) == limiter.stats().allowed
    limiter.update("2000M/h burst 1000M")
    assert before + 4 + len(BATCH) + 2 == charged(limiter)
    limiter.reset(KEY)
    assert 0 == charged(limiter)


@scene()
def child_goes_its_own_way() -> None:
    """A fork amid nothing; the clock that both have is a copy, too."""
    limiter, real = Limiter("5/min", clock=ManualClock(60.0)), Limiter("5/h")
    bucket = limiter.bucket("a")
    assert (3, 3) == (bucket.acquire(2).remaining, real.acquire("a", 2).remaining)

    def child() -> None:
        assert (3, 1, True) == (bucket.peek().remaining, bucket.acquire(2).remaining, limiter.allow("new"))
        assert (2, 2) == (real.acquire("a").remaining, real.allow_many(["a"] * 100).count(1))
        limiter.update("7/min")
        assert (3, 3, 2) == (bucket.peek().remaining, limiter.stats().allowed, limiter.stats().keys)
        assert 8 == Limiter("9/s").acquire("a").remaining

    go()
    wait_for(fork(child))
    assert (3, 5, 1) == (bucket.peek().remaining, limiter.peek("new").remaining, limiter.stats().allowed)
    assert 3 == real.peek("a").remaining
    done()


@scene()
def fork_amid_calls() -> None:
    """Threads that the child has not got stood in the middle of a batch, which it has charged in part."""
    limiter = ample()
    threads, most_uncounted, forks, amid = 4, 4 * len(BATCH), 0, 0
    results, sent = os.pipe()

    def child() -> None:
        uncounted = charged(limiter) - limiter.stats().allowed
        assert 0 <= uncounted <= most_uncounted
        use(limiter)
        os.write(sent, b"y" if uncounted else b"n")

    with crew(lambda: limiter.allow_many(BATCH), threads):
        go()
        while amid < 5:
            wait_for(fork(child))
            amid += os.read(results, 1) == b"y"
            forks += 1
    check_counts(limiter, charged(limiter))
    done(forks=forks, amid_a_batch=amid)


@scene()
def fork_amid_update() -> None:
    """A thread that the child has not got held the lock of updates, and had swept half of the table."""
    limiter = Limiter("1000M/h burst 1000M", max_keys=2**18, clock=ManualClock(60.0))
    keys = [f"{i}" for i in range(10_000)]
    limiter.allow_many(keys)
    bursts, results, sent, forks, amid = [900, 800], *os.pipe(), 0, 0

    def work() -> None:
        limiter.update(f"1000M/h burst {bursts[0]}M")
        bursts.reverse()

    def child() -> None:
        amid_one = limiter.peek(KEY).limit != limiter.limits[0].parameters().capacity
        limiter.update("1000M/h burst 700M")
        assert 700 * 10**6 == limiter.peek(KEY).limit == limiter.limits[0].parameters().capacity
        assert {700 * 10**6 - 1} == {limiter.peek(key).remaining for key in keys}
        os.write(sent, b"y" if amid_one else b"n")

    with crew(work, 1):
        go()
        while amid < 3:
            wait_for(fork(child))
            amid += os.read(results, 1) == b"y"
            forks += 1
    done(forks=forks, amid_an_update=amid)


@scene()
def fork_in_a_signal_handler() -> None:
    """While the code that it interrupts calls, or updates."""
    limiter, forks, calls = ample(), 0, 0

    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal forks
        forks += 1
        wait_for(fork(lambda: use(limiter)))
        signal.setitimer(signal.ITIMER_REAL, 0.001)

    signal.signal(signal.SIGALRM, handler)
    go()
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    while forks < 20:
        limiter.allow(KEY)
        limiter.allow_many(BATCH)
        limiter.update("1000M/h burst 1000M")
        calls += 1 + len(BATCH)
    signal.setitimer(signal.ITIMER_REAL, 0)
    check_counts(limiter, calls)
    done(forks=forks)


@scene()
def fork_in_a_thread() -> None:
    """The child's only thread is not its main one."""
    limiter, children = ample(), []
    limiter.allow(KEY)
    thread = threading.Thread(target=lambda: children.append(fork(lambda: use(limiter))))
    go()
    thread.start()
    thread.join()
    wait_for(*children)
    check_counts(limiter, 1)
    done()


@scene()
def workers_of_a_warm_parent() -> None:
    """Each enforces the whole limit on its own, with what the parent had charged in it."""
    limiter = Limiter("100/h", clock=ManualClock(60.0))
    limiter.allow_many([KEY] * 40)

    def worker() -> None:
        granted: list[bytes] = []
        threads = [
            threading.Thread(target=lambda: granted.append(limiter.allow_many([KEY] * 50))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 60 == sum(map(sum, granted))
        assert (100, 140) == (limiter.stats().allowed, limiter.stats().denied)

    go()
    wait_for(*[fork(worker) for _ in range(8)])
    assert (60, 40) == (limiter.peek(KEY).remaining, limiter.stats().allowed)
    done(workers=8)


@scene()
def child_of_a_child() -> None:
    """Ten generations, each forked while it had 20 threads, which leave their counters behind."""
    limiter, generations = ample(), 10

    def generation(number: int) -> None:
        check_counts(limiter, 20 * number)
        barrier, stay = threading.Barrier(21), threading.Event()

        def work() -> None:
            limiter.allow(KEY)
            barrier.wait()
            stay.wait()

        for _ in range(20):
            threading.Thread(target=work, daemon=True).start()
        barrier.wait()
        check_counts(limiter, 20 * (number + 1))
        if number + 1 < generations:
            wait_for(fork(lambda: generation(number + 1)))
        stay.set()

    go()
    generation(0)
    check_counts(limiter, 20)
    done(generations=generations)


@scene()
def child_that_is_killed() -> None:
    """What it did was its own."""
    limiter = ample()
    ready, sent = os.pipe()

    def child() -> None:
        with crew(lambda: limiter.allow_many(BATCH)):
            os.write(sent, b"y")
            threading.Event().wait()

    limiter.allow(KEY)
    pid = fork(child)
    assert b"y" == os.read(ready, 1)
    go()
    os.kill(pid, signal.SIGKILL)
    assert -signal.SIGKILL == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    check_counts(limiter, 1)
    done()


@scene()
def spawn_amid_calls() -> None:
    """Other programs, by vfork or posix_spawn."""
    limiter = ample()
    true = shutil.which("true")
    assert true is not None
    with crew(lambda: limiter.allow_many(BATCH)):
        go()
        for _ in range(5):
            subprocess.run([true], check=True)
            wait_for(os.posix_spawn(true, [true], os.environ))
    check_counts(limiter, charged(limiter))
    done(programs=10)


@scene(starts=1)
def exec_amid_calls() -> None:
    """Threads vanish in the middle of a call, and the new program knows nothing of the old one's keys."""
    limiter = ample()
    limiter.allow(KEY)
    code = f"from lifecycle import *; check_counts(ample(), 0); done(after_exec=len({KEY!r}))"
    with crew(lambda: limiter.allow_many(BATCH)):
        go()
        os.execv(sys.executable, [sys.executable, "-c", code])


# --- multiprocessing


def in_a_process(number: int) -> Decision:
    return Limiter("5/h", clock=ManualClock(60.0)).acquire(KEY, number)


def across(method: Literal["fork", "spawn", "forkserver"]) -> None:
    """Workers build their own limiters; a Decision comes back, a limiter does not go over."""
    context: Any = multiprocessing.get_context(method)
    limiter = Limiter("5/h", clock=ManualClock(60.0))
    expected = limiter.acquire(KEY)
    go()
    with context.Pool(2) as pool:
        decisions = pool.map(in_a_process, [1, 1, 1, 1])
        pool.close()
        pool.join()
    assert [expected] * 4 == decisions
    if method != "fork":
        with refused(TypeError, "a limiter cannot be pickled or copied"):
            context.Process(target=limiter.allow, args=(KEY,)).start()
    done(method=method)


@scene()
def multiprocessing_fork() -> None:
    across("fork")


@scene(starts=3)
def multiprocessing_spawn() -> None:
    across("spawn")


@scene(starts=3)
def multiprocessing_forkserver() -> None:
    across("forkserver")
