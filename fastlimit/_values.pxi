# What a Limiter hands out and takes as a whole: decisions and clocks. A part of _core.pyx, which includes it:
# there is one compiled module, and both are made in its hot paths.

# ---- decisions

@cython.final
@cython.freelist(64)
@cython.no_gc
cdef class Decision:
    """What a limiter decided about one call; true if it was allowed. Immutable.

    allowed      whether the call may go on
    limit        capacity of the binding limit: the most that can pass at once
    remaining    calls of cost 1 that would pass now, after this one; never negative
    retry_after  seconds until the same call is allowed if nobody else calls; 0.0 when allowed
    reset_after  seconds until the key cannot be told from one never seen
    delay        seconds to hold the admitted request so that output is smooth (leaky bucket only)
    name         which limit is the binding one: of several, the one with the longest wait or the least left

    The seconds are floats, rounded up so that waiting that long is enough; `retry_after_ns`, `reset_after_ns`
    and `delay_ns` are the exact integers.

    Thread-safety: immutable, so safe everywhere.
    """

    @property
    def retry_after(self):
        """Seconds until the same call is allowed if nobody else calls; 0.0 when allowed."""
        return seconds_rounded_up(self.retry_after_ns)

    @property
    def reset_after(self):
        """Seconds until the key cannot be told from one never seen."""
        return seconds_rounded_up(self.reset_after_ns)

    @property
    def delay(self):
        """Seconds to hold the admitted request so that output is smooth (leaky bucket only)."""
        return seconds_rounded_up(self.delay_ns)

    def __init__(self):
        raise TypeError("a Decision comes from a limiter: call acquire or peek; it cannot be made otherwise")

    def __bool__(self):
        return self.allowed

    def __eq__(self, other):
        return fields_of(self) == fields_of(other) if isinstance(other, Decision) else NotImplemented

    def __hash__(self):
        return hash(fields_of(self))

    def __reduce__(self):
        return restore_decision, fields_of(self)

    def __repr__(self):
        if not self.allowed:
            verdict = f"denied by {self.name!r}, retry after {self.retry_after:.9g} s"
        elif self.delay_ns:
            verdict = f"allowed by {self.name!r} after a delay of {self.delay:.9g} s"
        else:
            verdict = f"allowed by {self.name!r}"
        left = f"{self.remaining} of {self.limit} left, all in {self.reset_after:.9g} s"
        return f"<Decision: {verdict}; {left}>"


cdef inline tuple fields_of(Decision self):
    return (
        self.allowed, self.limit, self.remaining, self.retry_after_ns, self.reset_after_ns, self.delay_ns,
        self.name,
    )


def restore_decision(bint allowed, int64_t limit, int64_t remaining, int64_t retry_ns, int64_t reset_ns,
                     int64_t delay_ns, str name):
    """Rebuild a pickled Decision."""
    cdef Answer given = Answer(allowed, limit, remaining, retry_ns, reset_ns, delay_ns)
    return decision_of(&given, name)


cdef inline Decision decision_of(const Answer *given, str name):
    cdef Decision decision = Decision.__new__(Decision)
    decision.allowed = given.allowed
    decision.limit = given.limit
    decision.remaining = given.remaining
    decision.retry_after_ns = given.retry_ns
    decision.reset_after_ns = given.reset_ns
    decision.delay_ns = given.delay_ns
    decision.name = name
    return decision


# ---- clocks

@cython.final
cdef class ManualClock:
    """A clock that moves when told to, for tests, simulations and replays. It is wall time since 1970, too.

    `now` is where it starts, in seconds, 0 to about 9.2e9. `advance` moves forward by seconds, `set` to a
    time, also back. `now_ns`, `advance_ns` and `set_ns` are the same in whole nanoseconds. TypeError for
    other types, ValueError outside the range, or over 22 years after the first use of a limiter on this
    clock, which could not follow. Whoever waits on a limiter with this clock wakes when it gets there.

    Thread-safety: reading and setting are atomic; two concurrent `advance` may count as one.
    """

    def __cinit__(self, now=0.0):
        self.cell.manual = True
        self.cell.latest = INT64_MAX
        self.sleepers = {}
        self.set(now)

    @property
    def now_ns(self):
        """The time in nanoseconds since 1970."""
        return load_relaxed_i64(&self.cell.ns)

    def advance(self, seconds):
        """Move forward by `seconds`, 0 or more."""
        self.advance_ns(nanoseconds(seconds))

    def set(self, seconds):
        """Move to `seconds` since 1970, which may be back."""
        self.set_ns(nanoseconds(seconds))

    def advance_ns(self, ns):
        """Move forward by `ns` nanoseconds, 0 or more."""
        check_ns(ns)
        if ns < 0:
            raise ValueError(f"a clock advances by 0 or more, not {shown(ns)} ns; to step back, set it")
        self.set_ns(self.now_ns + ns)

    def set_ns(self, ns):
        """Move to `ns` nanoseconds since 1970, which may be back."""
        check_ns(ns)
        if not 0 <= ns <= INT64_MAX:
            raise ValueError(f"a clock must stay from 1970 to 2262 (0 to 2^63 - 1 ns), not {shown(ns)} ns")
        if ns > self.cell.latest:
            raise ValueError(
                f"this clock cannot go beyond {self.cell.latest} ns:"
                f" a limiter in use on it counts from over 22 years before,"
                f" and could not follow to {shown(ns)} ns; give new limiters a new clock"
            )
        cdef int64_t before = self.now_ns
        store_relaxed_i64(&self.cell.ns, ns)
        full_fence()  # and then see who went to sleep: one of the two sees the other
        if self.sleepers:
            wake_sleepers(self, before)

    def __repr__(self):
        return f"ManualClock({self.now_ns / 10**9!r})"

    def __reduce__(self):
        raise TypeError("a ManualClock cannot be pickled or copied: limiters read this very one")
