"""Tasks that wait, of asyncio or uvloop. The queues that they share with threads are in `_waits.pxi`."""

from __future__ import annotations

import threading
import weakref
from asyncio import AbstractEventLoop, Future, TimerHandle, current_task
from asyncio.events import _get_running_loop
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

from ._core import Bucket, Decision, Waiter, pass_at_once

__all__ = ["wait_async"]

DAY_MS = 86_400_000  # the longest that a loop is asked to sleep at once
MILLISECOND_NS = 1_000_000
FEW_ALARMS = 64

serials = count()  # breaks ties between alarms: who set one first


async def wait_async(bucket: Bucket, cost: int, timeout_ns: int) -> Decision:
    """`Limiter.wait_async`, with checked arguments."""
    loop = _get_running_loop()
    if loop is None:
        raise RuntimeError("wait_async needs a running event loop; in a thread use `wait`")
    decision = pass_at_once(bucket, cost, timeout_ns)
    if decision is not None and (cost == 0 or not decision.delay_ns):
        return decision
    waiter = TaskWaiter(bucket, cost, loop)
    waiter.alarms.add(waiter)
    try:
        if decision is None:
            decision = waiter.enter(timeout_ns)
        while decision is None:
            signal = waiter.new_signal()  # before the look, so that no wake-up after it is lost
            decision = waiter.look()
            if decision is None:
                waiter.alarms.set(waiter)
                await signal
        waiter.leave()
        if decision.delay_ns:
            waiter.hold(decision.delay_ns)
            while not waiter.is_due():
                signal = waiter.new_signal()
                waiter.alarms.set(waiter)
                await signal
    finally:
        waiter.leave()
        waiter.alarms.remove(waiter)
    return decision


class TaskWaiter(Waiter):
    """It sleeps on a Future, and is woken in its loop."""

    __slots__ = ("alarms", "serial", "signal")
    loop: AbstractEventLoop

    def __init__(self, bucket: Bucket, cost: int, loop: AbstractEventLoop) -> None:
        self.alarms = alarms_of(loop)
        self.signal: Future[None] | None = None
        self.serial = -1  # of its alarm that counts

    def new_signal(self) -> Future[None]:
        self.signal = self.loop.create_future()
        return self.signal

    def resume(self) -> None:
        """In its loop."""
        if self.signal is not None and not self.signal.done():
            self.signal.set_result(None)

    def wake(self) -> bool:
        """Have the task look again, from wherever this is. False if its loop is closed."""
        return self.tell(self.resume)

    def tell(self, what: Callable[[], None]) -> bool:
        """Have its loop do this. While it runs no task this may be a signal handler, and the loop asleep."""
        if _get_running_loop() is self.loop and current_task(self.loop) is not None:
            what()
            return True
        try:
            self.loop.call_soon_threadsafe(what)
        except RuntimeError:
            return False
        return True

    def turn(self) -> bool:
        """It is the first now. In its own loop it sleeps on until there is room."""
        return self.tell(self.look_if_ready)

    def look_if_ready(self) -> None:
        """In its loop."""
        if self.signal is None or self.signal.done():
            return
        ready = self.ready()
        for waiter in ready:
            waiter.resume()
        if not ready:
            self.alarms.set(self)


class Alarms:
    """When the tasks of one event loop that wait are to look again: one timer of the loop serves all of them.

    The timer runs as long as anybody waits, be it for their turn only, since it tells of a loop that is
    closed: that drops its timers, and whoever waits in other loops or threads must not wait for its tasks.
    Used in the thread of the loop, but for `remove`, which may be a finalizer's.
    """

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.loop = loop
        self.members: set[TaskWaiter] = set()
        self.heap: list[tuple[int, int, TaskWaiter]] = []
        self.timer: weakref.ref[TimerHandle] | None = None
        self.armed_ns: int | None = None  # by the clock of the system; None: to tell of the end only

    def add(self, waiter: TaskWaiter) -> None:
        self.members.add(waiter)
        if self.timer is None:
            self.start_timer(DAY_MS)

    def remove(self, waiter: TaskWaiter) -> None:
        self.members.discard(waiter)
        if not self.members and _get_running_loop() is self.loop:
            self.heap.clear()
            self.stop_timer()
            if places.alarms is self:
                places.alarms = None

    def set(self, waiter: TaskWaiter) -> None:
        """Have `waiter` look again when it is due."""
        seconds = waiter.pause()
        if seconds == 0:
            waiter.resume()
        elif seconds > 0:
            waiter.serial = next(serials)
            heappush(self.heap, (waiter.due_ns, waiter.serial, waiter))
            if len(self.heap) > 2 * len(self.members) + FEW_ALARMS:
                self.tidy()
            if self.armed_ns is None or waiter.due_ns < self.armed_ns:
                self.arm(waiter.due_ns, seconds)

    def is_set(self, alarm: tuple[int, int, TaskWaiter]) -> bool:
        _, serial, waiter = alarm
        return waiter.serial == serial and waiter in self.members

    def ring(self) -> None:
        """The timer went off."""
        self.timer = None
        self.armed_ns = None
        try:
            while self.heap:
                alarm = heappop(self.heap)
                due_ns, _, waiter = alarm
                if self.is_set(alarm):
                    if seconds := waiter.pause():
                        heappush(self.heap, alarm)
                        self.arm(due_ns, seconds)
                        return
                    waiter.look_if_ready()
            if self.members:
                self.start_timer(DAY_MS)
        except BaseException:  # an interrupt, which may have lost an alarm
            for waiter in list(self.members):
                waiter.resume()
            self.start_timer(DAY_MS)
            raise

    def tidy(self) -> None:
        heap, self.heap = self.heap, []
        for alarm in heap:
            if self.is_set(alarm):
                heappush(self.heap, alarm)

    def arm(self, due_ns: int, seconds: float) -> None:
        # A loop's timers have a resolution of a millisecond; uvloop rounds to the nearest, perhaps to none.
        self.start_timer(max(-int(-seconds * 1000 // 1), 1))
        self.armed_ns = due_ns

    def start_timer(self, delay_ms: int) -> None:
        self.stop_timer()
        self.timer = weakref.ref(self.loop.call_later(delay_ms / 1000, self.ring), self.timer_dropped)

    def stop_timer(self) -> None:
        timer = None if self.timer is None else self.timer()
        if timer is not None:
            timer.cancel()
        self.timer = None
        self.armed_ns = None

    def timer_dropped(self, _: object) -> None:
        if self.loop.is_closed():
            if places.alarms is self:
                places.alarms = None
            while self.members:
                self.members.pop().leave()


class Places(threading.local):
    """The alarms of the loop that a thread runs, while anybody waits in it."""

    alarms: Alarms | None = None


places = Places()


def alarms_of(loop: AbstractEventLoop) -> Alarms:
    alarms = places.alarms
    if alarms is None or alarms.loop is not loop:
        alarms = places.alarms = Alarms(loop)
    return alarms
