# cython: language_level=3, freethreading_compatible=True, binding=False
# cython: embedsignature=True, embedsignature.format=clinic
# cython: auto_pickle=False, wraparound=False, cdivision=True
"""The compiled module: turns Python arguments into kernel calls, and answers into Decisions; no maths.

Private but for what `fastlimit` re-exports and what `_core.pxd` names for `cimport`.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.tuple cimport PyTuple_GET_ITEM
from libc.stdint cimport INT64_MAX, int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from ._kernel.answer cimport Answer, answer
from ._kernel.arguments cimport (
    PySequence_Fast_GET_SIZE, PySequence_Fast_ITEMS, any_cost, batch_of, hash_batch, hash_key, settled_cost,
    shown,
)
from ._kernel.atomics cimport (
    dekker_fence, full_fence, load_relaxed, load_relaxed_i64, store_relaxed, store_relaxed_i64,
)
from ._kernel.build cimport build_table, limit_of, log_bytes, ring_length, slots_for
from ._kernel.clock cimport clock_now, counter_trusted, start_clock, system_clock
from ._kernel.counters cimport count
from ._kernel.decide cimport CHARGE, DEBIT, PEEK, REFUND, RESET, Operation, Trace, operate
from ._kernel.engine cimport (
    MAX_LIMITS, Totals, admit_batch, admit_key, attempt_key, change_limit, charge_key, close_engine,
    combine_all, open_engine, operate_key, prepare, totals,
)
from ._kernel.hashing cimport Hash, is_same_key
from ._kernel.seconds cimport check_ns, nanoseconds, seconds_rounded_up
from ._kernel.sketch cimport ENTRIES, key_named, note, note_batch
from ._kernel.slot cimport Slot
from ._kernel.together cimport Charge, charge_all
from .algorithms.dispatch cimport LEAKY_BUCKET
from .algorithms.outcome cimport Limit

from os import urandom

cdef extern from *:
    """
    #if defined(__x86_64__) && !defined(__GCC_HAVE_SYNC_COMPARE_AND_SWAP_16)
    #error "compile with -mcx16: else a 16-byte compare-and-swap would call a library that may hide a lock"
    #endif
    """

cdef enum:
    MAX_ACQUIRE = 8
    NOGIL_FROM = 32  # keys in a batch from which releasing the GIL pays

start_clock(counter_trusted())


class FastlimitError(Exception):
    """The base of the exceptions that are fastlimit's own."""


class CostExceedsLimit(FastlimitError, ValueError):
    """The cost is above what the limit can ever grant: waiting would not help."""


include "_values.pxi"


# ---- limiters

cdef object make_plan = None
cdef object make_change = None
cdef object make_stats = None
cdef object make_timeout = None
cdef object make_estimate = None
cdef object make_wait_async = None
cdef object update_lock = None
cdef int64_t forks = -1  # that led to this process


def install(plan, change, stats, timeout, estimate, wait_async, lock):
    """What a Limiter needs that is in Python; `fastlimit.limiter` brings it, and after a fork a new lock."""
    global make_plan, make_change, make_stats, make_timeout, make_estimate, make_wait_async
    global update_lock, forks
    make_plan = plan
    make_change = change
    make_stats = stats
    make_timeout = timeout
    make_estimate = estimate
    make_wait_async = wait_async
    update_lock = lock
    forks += 1


def log_bytes_for(parameters, max_keys):
    """Address space that the log of a sliding log takes for so many keys; 0 for other limits."""
    cdef Limit limit = limit_of(parameters)
    return log_bytes(slots_for(max_keys), ring_length(&limit))


cdef class Limiter:
    """Enforces one or several limits on keys, in this process.

    limit      a text ("100/s burst 200", "10/s; 1000/h"), a limit object, or a list: all must allow a call
    name       what Decisions and statistics call it; of several limits, `name[i]`; default: the limit's text
    max_keys   keys that may owe at once, 1 to 2^30; 43 bytes each, touched as they come. A key finds no
               place a little earlier: when all are in use, one in 1,200. Default: 65,536; with a SlidingLog,
               halved until its log fits 32 MB (but 16 at least)
    when_full  for keys without a place, since those that owe stay: "share" common buckets (default), "deny"
               or "allow" them
    clock      a ManualClock from `fastlimit.testing`, or None for the system's
    top        whether refused keys are remembered for `top()`
    max_log_bytes  the most address space that the log of a SlidingLog may take; default 2^30. It takes 64 to
               128 bytes for each unit of its count and key, touched as units are logged

    Raises InvalidLimit for limits that cannot be read or enforced, ValueError and TypeError for other
    arguments, MemoryError if the table cannot be mapped.

    Thread-safety: every method may be called from any thread, and all but `wait` from signal handlers; calls
    take no lock but `update`. A child process starts with a copy of what its parent knew, in which nobody
    waits, and goes its own way.
    """

    def __cinit__(self):
        self.core.clock = &system_clock

    def __init__(
        self, limit, *, name=None, max_keys=None, when_full="share", clock=None, top=True, max_log_bytes=2**30
    ):
        if self.core.limit_count:
            raise RuntimeError("this limiter is built already; make another one")
        plan = make_plan(limit, name, max_keys, when_full, clock, top, max_log_bytes)
        self.limits = plan.limits
        self.name = name
        self.names = list(plan.names)
        self.max_keys = plan.max_keys
        self.clock = clock
        random = urandom(sizeof(self.core.secret))
        memcpy(self.core.secret, PyBytes_AS_STRING(random), sizeof(self.core.secret))
        if clock is not None:
            self.core.clock = &self.clock.cell
        try:
            if not open_engine(&self.core, top):
                raise MemoryError("no memory for a limiter's counters")
            for i, parameters in enumerate(plan.parameters):
                build_table(
                    &self.core.tables[<int> i], self.core.clock, parameters, plan.max_keys, plan.when_full
                )
        except MemoryError:
            close_engine(&self.core)  # it may be tried again
            raise
        self.core.most_cost = least_capacity(plan.parameters)
        self.parameters = plan.parameters
        self.smooth = any([one.algorithm == LEAKY_BUCKET for one in plan.parameters])
        self.queues = {}
        self.core.limit_count = len(plan.parameters)

    def __dealloc__(self):
        close_engine(&self.core)

    @cython.always_allow_keywords(False)
    def allow(self, key, /):
        """Charge cost 1 if the limit has room, and say whether it had: the fastest path. Returns a bool.

        `key` is a str, bytes or a tuple of them, at most 4,096 bytes (TypeError, ValueError).
        """
        cdef int64_t now = clock_now(self.core.clock)
        cdef Hash hash
        open_call(self, key, &hash)
        if admit_key(&self.core, &hash, NULL, 1, &now):
            return True
        note(self.core.sketch, key, &hash)
        return False

    def acquire(self, key, cost=1):
        """Charge `cost` units if the limit has room for all of them. Returns a Decision.

        A cost of 0 is a peek and always allowed. Raises CostExceedsLimit for one above what the limit can
        ever grant, ValueError and TypeError for what is no cost or no key, before anything changes.
        """
        cdef Hash hash
        open_call(self, key, &hash)
        return acquire_at(self, key, &hash, NULL, cost)

    def peek(self, key, cost=1):
        """What `acquire(key, cost)` would decide now, consuming nothing: `remaining` is without the call.

        Returns a Decision.
        """
        cdef Hash hash
        open_call(self, key, &hash)
        return operate_at(self, &hash, PEEK, charged_cost(self, cost))

    def wait(self, key, cost=1, timeout=None):
        """`acquire`, but sleep until there is room, and then for the `delay`, if any. Returns a Decision.

        First come, first served: those who wait on a key in this process, here or in `wait_async`, are
        admitted in the order of their calls. Calls that do not wait may overtake them.

        `timeout` is in seconds, 0 or more, or None for as long as it takes. The Decision is not allowed, and
        nothing is charged, as soon as it is known that the timeout cannot be met, those ahead included. Time
        is that of the limiter's clock: on a ManualClock, `advance` and `set` end a wait.

        A cost of 0 is allowed at once. Errors as in `acquire`; TypeError and ValueError for what is no
        timeout; CostExceedsLimit also if an `update` meanwhile put the cost out of reach; RuntimeError if a
        task of the event loop that this thread runs waits ahead, which could then never be served. Blocks the
        thread, but not the interpreter: in a coroutine use `wait_async`. Not for signal handlers.
        """
        return wait_in_thread(Bucket(self, key), charged_cost(self, cost), make_timeout(timeout))

    def wait_async(self, key, cost=1, timeout=None):
        """`wait` for coroutines: `await limiter.wait_async(key)` gives the Decision. For asyncio and uvloop.

        Arguments are checked by the call, the decision is taken when it is awaited. Whoever is cancelled
        leaves the queue and was not charged, except in a leaky bucket's `delay`: that turn stays taken, since
        those behind have been told theirs.
        """
        return make_wait_async(Bucket(self, key), charged_cost(self, cost), make_timeout(timeout))

    def refund(self, key, cost=1):
        """Give `cost` units back, never above fresh; always allowed. Returns a Decision: what is left now."""
        cdef Hash hash
        open_call(self, key, &hash)
        return give_back(self, &hash, REFUND, settled_cost(cost))

    def debit(self, key, cost=1):
        """Charge `cost` units after the fact, room or not, at most one further capacity into debt.

        Returns a Decision with what is left now. What exceeds the bottom is dropped and counted in `stats()`.
        """
        cdef Hash hash
        open_call(self, key, &hash)
        return operate_at(self, &hash, DEBIT, settled_cost(cost))

    def reset(self, key):
        """Make `key` fresh again, whatever it owes."""
        cdef Hash hash
        open_call(self, key, &hash)
        give_back(self, &hash, RESET, 0)

    def allow_many(self, keys, costs=None):
        """Decide on a batch, in order, at one clock reading. Returns bytes: 1 for each allowed, 0 for each
        denied.

        `keys` is any iterable of keys, `costs` as many ints or None for 1 each. Everything is checked first:
        a bad element raises what a single call would, with its index, and charges nothing. Large batches
        release the GIL.
        """
        cdef object batch = batch_of(keys, "keys")
        cdef object batch_costs = None if costs is None else batch_of(costs, "costs")
        cdef Py_ssize_t size = PySequence_Fast_GET_SIZE(batch)
        cdef bytes verdicts = PyBytes_FromStringAndSize(NULL, size)
        cdef unsigned char *verdict = <unsigned char *> PyBytes_AS_STRING(verdicts)
        cdef Hash *hashes = NULL
        cdef int64_t *units = NULL
        require_built(self)
        try:
            hashes = <Hash *> malloc((size or 1) * sizeof(Hash))
            units = <int64_t *> malloc((size or 1) * sizeof(int64_t)) if batch_costs is not None else NULL
            if hashes == NULL or (batch_costs is not None and units == NULL):
                raise MemoryError(f"no memory for a batch of {size} keys")
            hash_batch(batch, size, self.core.secret, hashes)
            if batch_costs is not None:
                cost_batch(self, batch_costs, size, units)
            if size >= NOGIL_FROM:
                with nogil:
                    admit_batch(&self.core, hashes, units, size, verdict)
                if self.core.limit_count > 1:
                    tell_all(self)  # who may have met a charge that was rolled back
            else:
                admit_batch(&self.core, hashes, units, size, verdict)
            note_batch(self.core.sketch, batch, size, self.core.secret, hashes, verdict)
        finally:
            free(hashes)
            free(units)
        return verdicts

    def bucket(self, key):
        """A handle on one key that skips hashing and look-up. Returns a Bucket."""
        return Bucket(self, key)

    def top(self, n=10):
        """The worst offenders: up to `n` pairs (key, denied), most denied first, of 64 that are kept.

        Counts are never too low, and too high by at most a 64th of all refusals. Keys longer than 64 bytes
        are cut. Empty with `top=False`.
        """
        if not isinstance(n, int) or isinstance(n, bool) or n < 0:
            raise ValueError(f"n must be an int of 0 or more, not {n!r}")
        require_built(self)
        cdef int i
        found = []
        if self.core.sketch != NULL:
            for i in range(ENTRIES):
                if self.core.sketch.counts[i]:
                    found.append((key_named(&self.core.sketch.names[i]), self.core.sketch.counts[i]))
        found.sort(key=lambda pair: pair[1], reverse=True)
        return found[:n]

    def update(self, limit):
        """Change the numbers while calls go on: every key keeps what it owes, at most twice the new capacity.

        A bucket keeps its debt in tokens; a window keeps its count, in the window of now if its length
        changed; a sliding log keeps its instants, so its window must stay, and its count within the room of
        its log. Number and algorithms must stay, too (InvalidLimit): build another limiter for others.
        Threads that decide meanwhile decide by the old numbers or by the new ones. Concurrent updates wait
        for each other.
        """
        cdef Limit[MAX_LIMITS] wanted
        cdef int i
        require_built(self)
        rooms = [self.core.tables[i].ring_length // 4 for i in range(self.core.limit_count)]
        plan = make_change(limit, self.name, self.limits, rooms)
        limits, names = plan.limits, list(plan.names)
        cdef int64_t most_cost = least_capacity(plan.parameters)
        for i in range(self.core.limit_count):
            wanted[i] = limit_of(plan.parameters[i])
        # While the lock is held nothing is allocated, and no limit dies: a finalizer may update, too.
        with update_lock:
            for i in range(self.core.limit_count):
                with nogil:
                    change_limit(&self.core, i, &wanted[i])
                self.names[i] = names[i]
            store_relaxed(&self.core.most_cost, most_cost)
            with cython.critical_section(self):
                _replaced = self.limits, self.parameters  # kept alive until the lock is free
                self.limits = limits
                self.parameters = plan.parameters
        tell_all(self)

    def stats(self):
        """Totals so far, as an immutable Stats; counts the keys by a scan of the table."""
        cdef Totals sum
        require_built(self)
        with nogil:
            sum = totals(&self.core)
        return make_stats(
            self.name, sum.calls.allowed, sum.calls.denied, sum.keys, self.max_keys, sum.full_events,
            sum.clamped_debits, sum.lost_on_full, sum.table_bytes, sum.log_bytes, waiting_on(self),
        )

    def __repr__(self):
        name = "" if self.name is None else f", name={self.name!r}"
        return f"<Limiter {'; '.join(map(str, self.limits or ()))!r}{name}>"

    def __reduce__(self):
        raise TypeError(
            "a limiter cannot be pickled or copied: its buckets live in this process;"
            " build one from its limits"
        )


cdef int64_t least_capacity(tuple parameters) except -1:
    return min([one.capacity for one in parameters])


cdef int require_built(Limiter self) except -1:
    if self.core.limit_count == 0:
        raise RuntimeError("this limiter is not built: its __init__ was not called")
    return 0


# ---- one call

cdef inline int open_call(Limiter self, object key, Hash *hash) except -1:
    if self.core.limit_count == 0:
        require_built(self)
    return hash_key(key, self.core.secret, hash)


cdef inline int64_t charged_cost(Limiter self, object cost) except -1:
    """A cost that the limits can grant."""
    cdef int64_t value = any_cost(cost)
    if <uint64_t> value > load_relaxed(&self.core.most_cost):
        raise CostExceedsLimit(
            f"cost {shown(cost)} is above what {' and '.join(self.names)} can ever grant,"
            f" {load_relaxed(&self.core.most_cost)}; split the call or raise the limit"
        )
    return value


cdef Decision acquire_at(Limiter self, object key, const Hash *hash, Slot **hints, object cost):
    """Charge, count, and remember who was refused."""
    cdef Answer whole
    cdef int binding
    cdef int64_t units = charged_cost(self, cost)
    if units == 0:
        return operate_at(self, hash, PEEK, 0)
    binding = charge_key(&self.core, hash, hints, units, clock_now(self.core.clock), CHARGE, &whole)
    if not whole.allowed:
        note(self.core.sketch, key, hash)
    return decision_of(&whole, <str> self.names[binding])


cdef Decision give_back(Limiter self, const Hash *hash, Operation operation, int64_t cost):
    """A refund or reset, of which whoever waits is told."""
    cdef Decision decision = operate_at(self, hash, operation, cost)
    tell_first(self, hash)
    return decision


cdef Decision operate_at(Limiter self, const Hash *hash, Operation operation, int64_t cost):
    """An operation that is no charge; giving back or debiting nothing is a look."""
    cdef Answer whole
    cdef int binding
    if cost == 0 and operation != RESET:
        operation = PEEK
    binding = operate_key(&self.core, hash, cost, clock_now(self.core.clock), operation, &whole)
    return decision_of(&whole, <str> self.names[binding])


# ---- batches

cdef int cost_batch(Limiter self, object costs, Py_ssize_t size, int64_t *units) except -1:
    cdef Py_ssize_t i = 0
    if PySequence_Fast_GET_SIZE(costs) != size:
        raise ValueError(f"costs must be as many as keys, {size}, not {PySequence_Fast_GET_SIZE(costs)}")
    try:
        for i in range(size):
            units[i] = charged_cost(self, <object> PySequence_Fast_ITEMS(costs)[i])
    except (TypeError, ValueError) as error:
        raise type(error)(f"costs[{i}]: {error}") from None
    return 0


# ---- handles

@cython.final
cdef class Bucket:
    """A handle on one key of a limiter: the same calls without hashing and look-up. Keeps the limiter alive.

    It remembers where the key's slot was, checks at each call that it still is the key's, and looks it up
    again if not.

    Thread-safety: as the limiter's; share one handle, or make one per thread.
    """

    def __cinit__(self, Limiter limiter not None, key):
        require_built(limiter)
        hash_key(key, limiter.core.secret, &self.hash)
        self.limiter = limiter
        self.key = key

    def allow(self):
        """As `Limiter.allow`."""
        cdef int64_t now = clock_now(self.limiter.core.clock)
        if admit_key(&self.limiter.core, &self.hash, self.slots, 1, &now):
            return True
        note(self.limiter.core.sketch, self.key, &self.hash)
        return False

    def acquire(self, cost=1):
        """As `Limiter.acquire`."""
        return acquire_at(self.limiter, self.key, &self.hash, self.slots, cost)

    def wait(self, cost=1, timeout=None):
        """As `Limiter.wait`."""
        return wait_in_thread(self, charged_cost(self.limiter, cost), make_timeout(timeout))

    def wait_async(self, cost=1, timeout=None):
        """As `Limiter.wait_async`."""
        return make_wait_async(self, charged_cost(self.limiter, cost), make_timeout(timeout))

    def peek(self, cost=1):
        """As `Limiter.peek`."""
        return operate_at(self.limiter, &self.hash, PEEK, charged_cost(self.limiter, cost))

    def refund(self, cost=1):
        """As `Limiter.refund`."""
        return give_back(self.limiter, &self.hash, REFUND, settled_cost(cost))

    def debit(self, cost=1):
        """As `Limiter.debit`."""
        return operate_at(self.limiter, &self.hash, DEBIT, settled_cost(cost))

    def reset(self):
        """As `Limiter.reset`."""
        give_back(self.limiter, &self.hash, RESET, 0)

    def __repr__(self):
        return f"<Bucket {self.key!r} of {self.limiter!r}>"

    def __reduce__(self):
        raise TypeError("a Bucket cannot be pickled or copied: its limiter lives in this process")


cdef bint bucket_allow(Bucket bucket, int64_t now, uint64_t cost) noexcept nogil:
    if cost == 0:
        return True
    if cost > load_relaxed(&bucket.limiter.core.most_cost):
        count(bucket.limiter.core.stripes, 0, 1)
        return False
    return admit_key(&bucket.limiter.core, &bucket.hash, bucket.slots, cost, &now)


cdef int64_t bucket_now(Bucket bucket) noexcept nogil:
    return clock_now(bucket.limiter.core.clock)


include "_waits.pxi"
include "_together.pxi"
