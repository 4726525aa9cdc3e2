"""Out of memory, out of files, out of stack: said clearly, and nothing is broken afterwards."""

from __future__ import annotations

import os
import resource
import threading
from pathlib import Path

from fastlimit import Limiter, acquire_all
from fastlimit.testing import ManualClock

from . import KEY, ample, check_counts, done, go, refused, scene

MEGABYTE = 2**20


def mapped_bytes() -> int:
    return resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[0])


def allow_more_memory(megabytes: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (mapped_bytes() + megabytes * MEGABYTE, hard))


@scene()
def no_memory_for_a_table() -> None:
    """The error says what was asked for; limiters that exist go on, and smaller ones can be built."""
    limiter = ample()
    allow_more_memory(64)
    go()
    for _ in range(100):
        with refused(
            MemoryError, "no memory for max_keys=1,073,741,824: 45,812,992,192 bytes of address space"
        ):
            Limiter("5/min", max_keys=2**30)
        assert limiter.allow(KEY)
    assert Limiter("5/min").allow(KEY)
    check_counts(limiter, 100)
    done(refused=100)


@scene()
def no_memory_for_a_second_table() -> None:
    """What a constructor got before it failed is given back, also when the same object tries again."""
    limiter = Limiter.__new__(Limiter)
    allow_more_memory(200)
    before = mapped_bytes()
    go()
    for _ in range(100):
        with refused(MemoryError, "no memory for max_keys=2,097,152: 8"):
            limiter.__init__("5/min; 6/min; 7/min", max_keys=2**21)  # type: ignore[misc]
    assert mapped_bytes() - before < MEGABYTE
    limiter.__init__("1000M/h burst 1000M", clock=ManualClock(60.0))  # type: ignore[misc]
    assert limiter.allow(KEY)
    check_counts(limiter, 1)
    del limiter
    assert mapped_bytes() - before < MEGABYTE
    done(refused=100)


@scene()
def no_memory_for_a_batch() -> None:
    """Nothing of it is charged."""
    limiter, huge = ample(), [KEY] * (4 * MEGABYTE)
    allow_more_memory(64)
    go()
    for _ in range(20):
        with refused(MemoryError, "no memory for a batch of 4194304 keys"):
            limiter.allow_many(huge)
    check_counts(limiter, 0)
    assert sum(limiter.allow_many(huge[:1_000])) == 1_000
    check_counts(limiter, 1_000)
    done(refused=20)


@scene()
def no_more_files() -> None:
    """Building takes random numbers from the system, and needs no file for that."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    with refused(OSError, "Too many open files"):
        os.open(os.devnull, os.O_RDONLY)
    go()
    limiter = ample()
    assert limiter.allow(KEY)
    limiter.update("1000M/h burst 1000M")
    check_counts(limiter, 1)
    assert Limiter("10/s").allow(KEY)
    done()


@scene()
def smallest_stacks() -> None:
    """Of threads: 32 KiB, the least that Python takes. Eight limiters of eight limits need most."""
    clock = ManualClock(60.0)
    limits = "; ".join(f"{i + 1_000}/h" for i in range(8))
    limiters, granted = [Limiter(limits, clock=clock) for _ in range(8)], []

    def work() -> None:
        granted.append(bool(acquire_all([(limiter, KEY, 1) for limiter in limiters])))
        granted.append(limiters[0].allow(KEY))
        granted.append(bool(limiters[0].acquire(KEY)))
        granted.extend(map(bool, limiters[0].allow_many([KEY] * 40)))
        limiters[0].update(limits)
        limiters[0].stats()

    threading.stack_size(32_768)
    go()
    for _ in range(20):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert [True] * 20 * 43 == granted
    assert 20 * 43 == limiters[0].stats().allowed
    done(threads=20, bytes_of_stack=32_768)
