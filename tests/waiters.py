"""For the tests of waiting: calls that wait, in threads and in tasks, and the simple model of their queue."""

from __future__ import annotations

import asyncio
import copy
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from fastlimit import Decision, LeakyBucket, Limiter, _core
from fastlimit.limits import Limit
from fastlimit.reference import ReferenceLimiter
from fastlimit.testing import ManualClock
from fastlimit.waiting import TaskWaiter

PATIENCE_S = 10.0  # until a test gives up on what should happen at once
TURNS_OF_A_LOOP = 8  # from a call that comes from outside to a task that ends, and some to spare
TURNS_OF_A_WAITER = 3  # to look, to leave, to have ended


def until(condition: Callable[[], bool]) -> None:
    """Let other threads run until it holds."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0)


class Call:
    """One call that waits, as the test sees it: in a thread of its own, or in a task of the test's loop."""

    def __init__(self, limiter: Limiter, key: Any, cost: int, timeout: float | None) -> None:
        self.limiter, self.key, self.cost, self.timeout = limiter, key, cost, timeout
        self.result: Decision | None = None
        self.error: BaseException | None = None

    @property
    def is_over(self) -> bool:
        raise NotImplementedError

    def keep(self, get: Callable[[], Decision]) -> None:
        try:
            self.result = get()
        except BaseException as error:
            self.error = error


class InThread(Call):
    """It has returned, is in the queue, or keeps its delay, when this has been built."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.thread = threading.Thread(target=self.run, daemon=True)
        before, denied = self.seen(), self.limiter.stats().denied
        self.thread.start()
        until(lambda: self.is_over or self.seen() > before)
        if self.limiter.stats().denied > denied:
            until(lambda: self.is_over)

    def seen(self) -> int:
        stats = self.limiter.stats()
        return stats.waiting + stats.allowed + stats.denied

    def run(self) -> None:
        self.keep(lambda: self.limiter.wait(self.key, self.cost, self.timeout))

    @property
    def is_over(self) -> bool:
        return not self.thread.is_alive()


class InTask(Call):
    def __init__(self, loop: asyncio.AbstractEventLoop, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.task = loop.create_task(self.run())

    async def run(self) -> None:
        try:
            self.result = await self.limiter.wait_async(self.key, self.cost, self.timeout)
        except BaseException as error:
            self.error = error
            if not isinstance(error, Exception):
                raise

    @property
    def is_over(self) -> bool:
        return self.task.done()


def turn(loop: asyncio.AbstractEventLoop, turns: int = TURNS_OF_A_LOOP) -> None:
    """Let a loop go on for a few rounds."""

    async def rounds() -> None:
        for _ in range(turns):
            await asyncio.sleep(0)

    loop.run_until_complete(rounds())


def settle(loop: asyncio.AbstractEventLoop, limiter: Limiter) -> None:
    """Let a loop go on until nobody in it has anything to do, should they all pass one after the other."""
    turn(loop, TURNS_OF_A_LOOP + TURNS_OF_A_WAITER * limiter.stats().waiting)


def until_over(loop: asyncio.AbstractEventLoop, call: Call) -> None:
    """Let a loop and other threads go on until a call has returned."""

    def is_over() -> bool:
        turn(loop, 1)
        return call.is_over

    until(is_over)


class WakeUps:
    """Counts how often a thread or a task that waits is woken, whatever for."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.number = 0
        patch.setattr(_core, "Lock", self.lock)
        patch.setattr(TaskWaiter, "resume", self.counted(TaskWaiter.resume))

    def counted(self, resume: Callable[[TaskWaiter], None]) -> Callable[[TaskWaiter], None]:
        def resumed(waiter: TaskWaiter) -> None:
            self.number += waiter.signal is not None and not waiter.signal.done()
            resume(waiter)

        return resumed

    def lock(self) -> Any:
        wake_ups = self

        class Lock:
            def __init__(self) -> None:
                inner = threading.Lock()
                self.acquire, self.locked, self.inner = inner.acquire, inner.locked, inner

            def release(self) -> None:
                wake_ups.number += 1
                self.inner.release()

        return Lock()


class Expected:
    """A call as the model sees it."""

    def __init__(self, number: int, cost: int, deadline_ns: int | None) -> None:
        self.number, self.cost, self.deadline_ns = number, cost, deadline_ns
        self.due_ns = 0  # before which, as the first, it does not look again unless it is told to


class Frozen:
    def __init__(self, now_ns: int) -> None:
        self.now_ns = now_ns


class Model:
    """What a queue does, over the reference limiter: one list, one head."""

    def __init__(self, limit: Limit, clock: ManualClock) -> None:
        self.clock = clock
        self.limiter = ReferenceLimiter(limit, clock=clock)
        self.smooth = isinstance(limit, LeakyBucket)
        self.queue: list[Expected] = []
        self.delayed: dict[int, int] = {}
        self.returned: dict[int, bool] = {}
        self.admitted: list[int] = []

    def begins_ns(self, last: Expected) -> int:
        """When a call will begin, if all of those before it stay and nobody else calls."""
        clock = Frozen(self.clock.now_ns)
        limiter = copy.deepcopy(self.limiter.tables), clock
        alone = ReferenceLimiter.__new__(ReferenceLimiter)
        alone.tables, alone.clock = limiter
        for call in [*self.queue[: self.queue.index(last)], last]:
            while not (decision := alone.acquire("k", call.cost)):
                clock.now_ns += decision.retry_after_ns
        return clock.now_ns + decision.delay_ns

    def refuse(self, call: Expected) -> None:
        self.queue.remove(call)
        self.returned[call.number] = False

    def enter(self, call: Expected, was_refused: bool, exact: bool) -> None:
        self.queue.append(call)
        if self.queue[0] is call:
            self.work()
        if call not in self.queue[1:] or call.deadline_ns is None:
            return
        too_late = self.begins_ns(call) > call.deadline_ns
        if call.deadline_ns == self.clock.now_ns or (too_late and exact):
            self.refuse(call)
        elif was_refused:
            assert too_late, "refused, though it would have been admitted in time"
            self.refuse(call)

    def work(self, told: bool = False) -> None:
        now_ns = self.clock.now_ns
        while self.queue and (told or self.queue[0].due_ns <= now_ns):
            told = False
            head = self.queue[0]
            left_ns = None if head.deadline_ns is None else max(head.deadline_ns - now_ns, 0)
            if left_ns is not None and self.smooth and self.begins_ns(head) - now_ns > left_ns:
                self.refuse(head)
                continue
            decision = self.limiter.acquire("k", head.cost)
            if decision.allowed:
                self.queue.pop(0)
                self.admitted.append(head.number)
                self.delayed[head.number] = now_ns + decision.delay_ns
            elif left_ns is not None and decision.retry_after_ns > left_ns:
                self.refuse(head)
            else:
                head.due_ns = now_ns + decision.retry_after_ns
        for call in self.queue[1:]:
            if call.deadline_ns is not None and call.deadline_ns <= now_ns:
                self.refuse(call)
        for number in [number for number, at_ns in self.delayed.items() if at_ns <= now_ns]:
            del self.delayed[number]
            self.returned[number] = True

    def cancel(self, number: int) -> None:
        was_head = bool(self.queue) and self.queue[0].number == number
        self.queue = [call for call in self.queue if call.number != number]
        self.delayed.pop(number, None)
        if was_head:
            self.work()
