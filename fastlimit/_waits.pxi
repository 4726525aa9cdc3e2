# Those who wait: a queue for each key that somebody waits on, and threads that sleep in it. A part of
# _core.pyx, which includes it; tasks sleep in waiting.py.
#
# Whoever waits decides for itself, once it is the first of its queue: nothing is charged on behalf of one who
# may be gone by then. Who leaves gives the turn to the new first. There is no lock that an interrupt, a
# signal handler or a finalizer could meet half-way: a place is taken or given up in a few lines that run no
# Python code, so the GIL keeps them together, and without a GIL the limiter's critical section does.

import sys
from threading import Lock

cdef int64_t NEVER = INT64_MAX
cdef int64_t LONGEST_SLEEP_NS = 60 * 10**9  # at once, since no sleeper is told that the machine was suspended


cdef inline int64_t later(int64_t now, int64_t ns) noexcept:
    return NEVER if ns > NEVER - now else now + ns


cdef inline object identity_of(const Hash *hash):
    """What the table knows a key by: two keys share a queue if they share a bucket."""
    return <uint64_t> hash.tag << 32 | hash.ext


@cython.final
cdef class Queue:
    """Who waits on one key, first come first served. Read and changed in its limiter's critical section."""
    cdef Waiter first
    cdef Waiter last
    cdef Py_ssize_t length
    cdef object cost        # of all of them
    cdef list overdue       # those who leave it to the first, which is due, too, to decide before them
    cdef int64_t forks      # as of its process: a child does not wait for its parent's


cdef inline Queue queue_of(Limiter self, const Hash *hash):
    """In the limiter's critical section."""
    cdef Queue queue = <Queue> self.queues.get(identity_of(hash)) if self.queues else None
    return None if queue is None or queue.forks != forks else queue


cdef class Waiter:
    """One call that waits. Its subclasses sleep, and are woken by `wake`.

    due_ns  when to look again, at the latest, by the limiter's clock
    loop    the event loop that it is a task of; None: a thread

    Thread-safety: `wake` and `turn` may be called from anywhere, the rest by whoever waits; `leave` by
    others, too, if that one never can again.
    """
    cdef readonly Bucket bucket
    cdef readonly int64_t cost
    cdef readonly int64_t due_ns
    cdef readonly object loop
    cdef int64_t deadline
    cdef int64_t looked_ns  # a clock that is behind it has been set back
    cdef bint gave_way
    cdef int64_t forks
    cdef Queue queue        # while it has a place there
    cdef Waiter before
    cdef Waiter after
    cdef object __weakref__

    def __cinit__(self, Bucket bucket not None, int64_t cost, loop=None):
        self.bucket = bucket
        self.cost = cost
        self.loop = loop
        self.forks = forks

    def enter(self, int64_t timeout):
        """Take the last place. Returns a Decision instead, if the timeout, in ns, cannot be met there."""
        cdef Queue queue
        cdef object ahead = 0
        cdef int64_t needed
        self.deadline = later(clock_now(self.bucket.limiter.core.clock), timeout)
        with cython.critical_section(self.bucket.limiter):
            queue = queue_of(self.bucket.limiter, &self.bucket.hash)
            if queue is not None:
                ahead = queue.cost
        if ahead and timeout != NEVER:
            needed = earliest(self.bucket, ahead, self.cost)
            if timeout == 0 or needed > timeout:
                return turned_away(self, needed)
        join(self)
        return None

    def look(self):
        """Decide, if it is this one's turn or its time is over.

        Returns a Decision, or None: sleep until `due_ns`. Raises CostExceedsLimit if an update put the cost
        out of reach.
        """
        cdef int64_t now = clock_now(self.bucket.limiter.core.clock)
        cdef Waiter first = first_of(self)
        self.looked_ns = now
        if first is self:
            return attempt(self, now)
        if self.deadline > now:
            line_up(self, self.deadline)
        elif gives_way(self, now):
            line_up(self, later(now, 1))
        else:
            return turned_away(self, earliest(self.bucket, 0 if first is None else first.cost, self.cost))
        return None

    def ready(self):
        """Who is to look now that this one is due: itself, and those of its loop who will find room as well.

        Nobody, if it is the first of its queue and has no room yet, but time left: `due_ns` says how long.
        """
        cdef Answer whole
        cdef Limiter limiter = self.bucket.limiter
        cdef int64_t now = clock_now(limiter.core.clock)
        self.looked_ns = now
        if first_of(self) is not self or <uint64_t> self.cost > load_relaxed(&limiter.core.most_cost):
            return [self]
        if limiter.smooth and self.deadline != NEVER:
            return [self]  # it may have room in time, and a delay that is too long
        operate_key(&limiter.core, &self.bucket.hash, self.cost, now, PEEK, &whole)
        if whole.allowed:
            return fellows(self, whole.remaining)
        if later(now, whole.retry_ns) > self.deadline:
            return [self]
        stay(self, later(now, whole.retry_ns))
        return []

    def hold(self, int64_t delay):
        """Be due when the `delay`, in ns, of an admitted call is over."""
        self.due_ns = later(clock_now(self.bucket.limiter.core.clock), delay)
        self.looked_ns = 0

    def is_due(self):
        return clock_now(self.bucket.limiter.core.clock) >= self.due_ns

    def pause(self):
        """Seconds to sleep now: 0.0 if it is due, -1.0 until it is woken, perhaps by a manual clock."""
        cdef Limiter limiter = self.bucket.limiter
        cdef int64_t now, left
        if limiter.clock is not None:
            limiter.clock.sleepers[self] = self.due_ns
            full_fence()
            now = clock_now(limiter.core.clock)  # which may have been moved just before
            return -1.0 if self.looked_ns <= now < self.due_ns else 0.0
        if self.due_ns == NEVER:
            return -1.0
        left = self.due_ns - clock_now(limiter.core.clock)
        return seconds_rounded_up(min(left, LONGEST_SLEEP_NS)) if left > 0 else 0.0

    def leave(self):
        """Give up the place, if there is one, and the turn to the next."""
        if self.bucket.limiter.clock is not None:
            self.bucket.limiter.clock.sleepers.pop(self, None)
        give_turn(depart(self))

    def turn(self):
        """It is the first now, or may have room sooner than it reckons with. False if it cannot be told."""
        return self.wake()


cdef int join(Waiter self) except -1:
    cdef Limiter limiter = self.bucket.limiter
    cdef object identity = identity_of(&self.bucket.hash)
    cdef Queue queue
    cdef Queue fresh = Queue()  # made out here, where it may run a finalizer that joins, too
    cdef object _replaced       # likewise not destroyed in there
    fresh.cost = 0
    fresh.overdue = []
    fresh.forks = forks
    with cython.critical_section(limiter):
        queue = queue_of(limiter, &self.bucket.hash)
        if queue is None:
            _replaced = limiter.queues.get(identity)
            limiter.queues[identity] = queue = fresh
        self.queue = queue
        self.before = queue.last
        if queue.last is None:
            queue.first = self
        else:
            queue.last.after = self
        queue.last = self
        queue.length += 1
        queue.cost += self.cost
    dekker_fence()
    return 0


cdef Waiter depart(Waiter self):
    """Give up the place. Returns whose turn it is then, if this one had it."""
    cdef Limiter limiter = self.bucket.limiter
    cdef object identity = identity_of(&self.bucket.hash)
    cdef Queue queue
    cdef Waiter next_one = None
    with cython.critical_section(limiter):
        queue = self.queue
        if queue is None:
            return None
        if self.before is None:
            queue.first = next_one = self.after
            if next_one is not None:
                next_one.due_ns = 0  # it is about to look
        else:
            self.before.after = self.after
        if self.after is None:
            queue.last = self.before
        else:
            self.after.before = self.before
        self.queue = self.before = self.after = None
        queue.length -= 1
        queue.cost -= self.cost
        if queue.first is None and limiter.queues.get(identity) is queue:
            del limiter.queues[identity]
    return next_one


cdef Waiter first_of(Waiter self):
    cdef Waiter first = None
    with cython.critical_section(self.bucket.limiter):
        if self.queue is not None:
            first = self.queue.first
    return first


cdef int line_up(Waiter self, int64_t due_ns) except -1:
    """Sleep behind others; not if their turn has just been given to this one."""
    with cython.critical_section(self.bucket.limiter):
        if self.before is not None:
            self.due_ns = due_ns
    return 0


cdef bint gives_way(Waiter self, int64_t now) except -1:
    """Whether one whose time is over lets the first, which is due and was woken too, go before: there may be
    room for both. A manual clock jumps over both instants, and in which order they wake is chance.

    Once, and until the clock moves on: the first may be a task of a loop that stands still.
    """
    if self.bucket.limiter.clock is None or self.gave_way:
        return False
    with cython.critical_section(self.bucket.limiter):
        if self.queue is not None and self.queue.first is not self and self.queue.first.due_ns <= now:
            self.queue.overdue.append(self)
            self.gave_way = True
    return self.gave_way


cdef int stay(Waiter self, int64_t due_ns) except -1:
    """The first of a queue sleeps on; who gave way is to look again."""
    cdef list overdue = []
    with cython.critical_section(self.bucket.limiter):
        self.due_ns = due_ns
        if self.queue is not None and self.queue.overdue:
            overdue, self.queue.overdue = self.queue.overdue, overdue
    return wake_all(overdue)


cdef int wake_all(list waiters) except -1:
    """All of them, also if an interrupt comes in between, which is raised then."""
    cdef Py_ssize_t i
    for i in range(len(waiters)):
        try:
            waiters[i].wake()
        except BaseException:
            try:
                waiters[i].wake()
            finally:
                wake_all(waiters[i + 1:])
            raise
    return 0


cdef list fellows(Waiter first, int64_t room):
    """The first of a queue, and those right behind in its loop, as far as there is room for all of them."""
    cdef list found = []
    cdef Waiter one = first
    with cython.critical_section(first.bucket.limiter):
        while one is not None and one.loop is first.loop and (one is first or one.cost <= room):
            found.append(one)
            room -= one.cost
            one = one.after
    return found


cdef int give_turn(Waiter first) except -1:
    """Tell the first of a queue; where nobody is there to be told, the one behind."""
    while first is not None:
        try:
            reached = first.turn()
        except BaseException:  # an interrupt, which shall not cost somebody their turn
            first.turn()
            raise
        if reached:
            return 0
        first = depart(first)
    return 0


cdef int tell_first(Limiter self, const Hash *hash) except -1:
    """That its key may have room sooner than it reckons with."""
    cdef Queue queue
    cdef Waiter first = None
    dekker_fence()
    if not self.queues:
        return 0
    with cython.critical_section(self):
        queue = queue_of(self, hash)
        if queue is not None:
            first = queue.first
    return give_turn(first)


cdef int tell_all(Limiter self) except -1:
    return wake_all([(<Queue> queue).first for queue in queues_on(self)])


cdef list queues_on(Limiter self):
    cdef list queues
    if not self.queues:
        return []
    with cython.critical_section(self):
        queues = list(self.queues.copy().values())
    return [queue for queue in queues if (<Queue> queue).forks == forks and (<Queue> queue).first is not None]


cdef Py_ssize_t waiting_on(Limiter self) except -1:
    cdef Py_ssize_t length = 0
    for queue in queues_on(self):
        length += (<Queue> queue).length
    return length


cdef int wake_sleepers(ManualClock clock, int64_t before) except -1:
    """Those whose time has come; all if the clock was set back, as what they reckon with may have changed."""
    cdef int64_t now = load_relaxed_i64(&clock.cell.ns)
    return wake_all([
        waiter for waiter, due_ns in clock.sleepers.copy().items()
        if (due_ns <= now or now < before) and (<Waiter> waiter).forks == forks
    ])


# ---- decisions

def pass_at_once(Bucket bucket not None, int64_t cost, int64_t timeout):
    """The Decision of a call that finds room, and nobody ahead; None if it has to get in line."""
    cdef Limiter limiter = bucket.limiter
    cdef Queue queue = None
    cdef Answer whole
    cdef int binding
    if cost == 0:
        return operate_at(limiter, &bucket.hash, PEEK, 0)
    if limiter.queues:
        with cython.critical_section(limiter):
            queue = queue_of(limiter, &bucket.hash)
    if queue is not None or (timeout != NEVER and limiter.smooth):
        return None
    binding = attempt_key(
        &limiter.core, &bucket.hash, bucket.slots, cost, clock_now(limiter.core.clock), CHARGE, &whole
    )
    if not whole.allowed:
        return None
    count(limiter.core.stripes, 1, 0)
    return decision_of(&whole, <str> limiter.names[binding])


cdef Decision attempt(Waiter self, int64_t now):
    """Charge for the first of a queue. Returns None if there is no room yet, and time left to wait for it."""
    cdef Limiter limiter = self.bucket.limiter
    cdef int64_t cost = charged_cost(limiter, self.cost)
    # Who is woken a little late was in time, and passes if there is room now.
    cdef int64_t left = NEVER if self.deadline == NEVER else max(self.deadline - now, 0)
    cdef int64_t start
    cdef Answer whole
    cdef int binding
    if left != NEVER and limiter.smooth:
        start = earliest(self.bucket, 0, cost)
        if start > left:
            return turned_away(self, start - left)
    binding = attempt_key(
        &limiter.core, &self.bucket.hash, self.bucket.slots, cost, now, CHARGE, &whole
    )
    if whole.allowed and whole.delay_ns > left:  # somebody overtook it since `earliest`
        operate_key(&limiter.core, &self.bucket.hash, cost, now, REFUND, &whole)
        return turned_away(self, 0)
    if not whole.allowed and whole.retry_ns <= left:
        stay(self, later(now, whole.retry_ns))
        return None
    count(limiter.core.stripes, whole.allowed, not whole.allowed)
    if not whole.allowed:
        note(limiter.core.sketch, self.bucket.key, &self.bucket.hash)
    return decision_of(&whole, <str> limiter.names[binding])


cdef Decision turned_away(Waiter self, int64_t retry_ns):
    """Not admitted in time; it may try again in `retry_ns`, and perhaps in vain."""
    cdef Limiter limiter = self.bucket.limiter
    cdef int64_t cost = charged_cost(limiter, self.cost)
    cdef Answer whole
    cdef int binding = operate_key(
        &limiter.core, &self.bucket.hash, cost, clock_now(limiter.core.clock), PEEK, &whole
    )
    whole.allowed = False
    whole.retry_ns = max(whole.retry_ns, retry_ns, 1)
    whole.delay_ns = 0
    count(limiter.core.stripes, 0, 1)
    note(limiter.core.sketch, self.bucket.key, &self.bucket.hash)
    return decision_of(&whole, <str> limiter.names[binding])


cpdef int64_t earliest(Bucket bucket, object ahead, int64_t cost) except? -1:
    """Nanoseconds until `cost` can begin after `ahead`, if nobody else calls: no more than it takes."""
    cdef Limiter limiter = bucket.limiter
    cdef int64_t now = clock_now(limiter.core.clock)
    cdef object total = ahead + cost
    cdef tuple parameters
    cdef Trace trace
    cdef Answer look
    cdef int i
    looks = []
    with cython.critical_section(limiter):
        parameters = limiter.parameters
    for i in range(limiter.core.limit_count):
        operate(
            &limiter.core.tables[i], &bucket.hash, PEEK, min(total, parameters[i].capacity), now, &trace
        )
        answer(&limiter.core.tables[i], &trace, PEEK, &look)
        looks.append((look.remaining, look.retry_ns, look.reset_ns))
    return make_estimate(parameters, looks, ahead, cost)


# ---- threads

@cython.final
cdef class ThreadWaiter(Waiter):
    """It sleeps on a lock that is held, and is woken by its release."""
    cdef object signal

    def __cinit__(self, bucket, cost, loop=None):
        self.signal = Lock()
        self.signal.acquire()

    def wake(self):
        """Have the thread look again. Always True: a thread that waits is there."""
        with cython.critical_section(self):
            if self.signal.locked():
                self.signal.release()
        return True


cdef int sleep(ThreadWaiter self) except -1:
    """Until it is due or woken; perhaps for less."""
    cdef double seconds = self.pause()
    if seconds:
        self.signal.acquire(True, seconds)
    return 0


cdef Decision wait_in_thread(Bucket bucket, int64_t cost, int64_t timeout):
    cdef Decision decision = pass_at_once(bucket, cost, timeout)
    cdef ThreadWaiter waiter
    if decision is not None and (cost == 0 or decision.delay_ns == 0):
        return decision
    waiter = ThreadWaiter(bucket, cost)
    try:
        if decision is None:
            decision = waiter.enter(timeout)
            refuse_if_stuck(waiter)
        while decision is None:
            decision = waiter.look()
            if decision is None:
                sleep(waiter)
        waiter.leave()
        if decision.delay_ns:
            waiter.hold(decision.delay_ns)
            while not waiter.is_due():
                sleep(waiter)
    finally:
        waiter.leave()
    return decision


cdef int refuse_if_stuck(Waiter self) except -1:
    """Behind a task of the loop that runs in this very thread it would be its turn never."""
    cdef Waiter other
    cdef bint stuck = False
    events = sys.modules.get("asyncio.events")  # without which there is no task
    loop = None if events is None else events._get_running_loop()
    if loop is None:
        return 0
    with cython.critical_section(self.bucket.limiter):
        other = self.before
        while other is not None and not stuck:
            stuck = other.loop is loop
            other = other.before
    if stuck:
        raise RuntimeError(
            f"wait on {self.bucket.key!r} would block the event loop in which a task waits ahead of it,"
            " for ever; use `await limiter.wait_async(...)` in code that a loop runs"
        )
    return 0
