# cython: language_level=3, freethreading_compatible=True, binding=False
# cython: embedsignature=True, embedsignature.format=clinic, auto_pickle=False
# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The compiled engine: turns Python arguments into kernel calls and their answers into Decisions; it holds no maths.

Private but for what `fastlimit` re-exports and what `_core.pxd` names for `cimport`.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from ._kernel.answer cimport Answer, answer, combine
from ._kernel.arguments cimport any_cost, hash_key, settled_cost
from ._kernel.atomics cimport load_relaxed, load_relaxed_i64, prefetch, publish_u32, store_relaxed, store_relaxed_i64
from ._kernel.build cimport build_table, free_table, limit_of, table_bytes
from ._kernel.clock cimport clock_now, counter_trusted, start_clock, system_clock
from ._kernel.counters cimport STRIPES, Stripe, count, total
from ._kernel.decide cimport CHARGE, DEBIT, DONE, PEEK, REFUND, RESET, Operation, Trace, count_keys, decide, operate, sweep
from ._kernel.hashing cimport Hash, is_same_key
from ._kernel.pages cimport map_pages, unmap_pages
from ._kernel.seconds cimport clock_ns, nanoseconds, seconds_rounded_up
from ._kernel.sketch cimport ENTRIES, Sketch, name_of, note
from ._kernel.slot cimport Slot
from ._kernel.table cimport VERSIONS, Header, Table, prefetch_home
from ._kernel.together cimport Charge, charge_all

from os import urandom

cdef enum:
    MAX_ACQUIRE = 8
    PREFETCH_AHEAD = 16
    NOGIL_FROM = 32  # keys in a batch from which releasing the GIL pays

start_clock(counter_trusted())


class FastlimitError(Exception):
    """The base of the exceptions that are fastlimit's own."""


class CostExceedsLimit(FastlimitError, ValueError):
    """The cost is above what the limit can ever grant: waiting would not help."""


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
    name         which limit is the binding one: with several, the one that has the longest wait or the least left

    The seconds are floats, rounded up so that waiting that long is enough; `retry_after_ns`, `reset_after_ns` and
    `delay_ns` are the exact integers.

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
        return f"<Decision: {verdict}; {self.remaining} of {self.limit} left, all in {self.reset_after:.9g} s>"


cdef inline tuple fields_of(Decision self):
    return (
        self.allowed, self.limit, self.remaining, self.retry_after_ns, self.reset_after_ns, self.delay_ns, self.name
    )


def restore_decision(bint allowed, int64_t limit, int64_t remaining, int64_t retry_ns, int64_t reset_ns,
                     int64_t delay_ns, str name):
    """Rebuild a pickled Decision."""
    return decision_of(Answer(allowed, limit, remaining, retry_ns, reset_ns, delay_ns), name)


cdef inline Decision decision_of(Answer given, str name):
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
    """A clock that moves when told to: for tests, simulations and replays. It is wall time since 1970 as well.

    `now` is where it starts, in seconds, 0 to about 9.2e9. `advance` moves forward by seconds, `set` to a time, also back.
    `now_ns`, `advance_ns` and `set_ns` are the same in whole nanoseconds. ValueError outside the range.

    Thread-safety: reading and setting are atomic; two concurrent `advance` may count as one.
    """

    def __cinit__(self, now=0.0):
        self.cell.manual = True
        self.cell.ns = clock_ns(nanoseconds(now))

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
        if ns < 0:
            raise ValueError(f"a clock advances by 0 or more, not {ns} ns; to step back, set it")
        self.set_ns(self.now_ns + ns)

    def set_ns(self, ns):
        """Move to `ns` nanoseconds since 1970, which may be back."""
        store_relaxed_i64(&self.cell.ns, clock_ns(ns))

    def __repr__(self):
        return f"ManualClock({self.now_ns / 10**9!r})"

    def __reduce__(self):
        raise TypeError("a ManualClock cannot be pickled or copied: limiters read this very one")


# ---- engines

cdef class Engine:
    """The compiled part of `fastlimit.Limiter`, which documents it.

    Takes `fastlimit.limits.Parameters`, one per limit, and the names of the limits.
    """

    def __cinit__(self):
        self.clock = &system_clock

    def __init__(self, tuple parameters not None, list names not None, *, int64_t max_keys, uint32_t when_full,
                 ManualClock clock=None, bint top=True):
        if self.limit_count:
            raise RuntimeError("this limiter is built already; make another one")
        self.names = names
        self.max_keys = max_keys
        self.manual_clock = clock
        if clock is not None:
            self.clock = &clock.cell
        random = urandom(sizeof(self.secret))
        memcpy(self.secret, PyBytes_AS_STRING(random), sizeof(self.secret))
        self.stripes = <Stripe *> map_pages(STRIPES * sizeof(Stripe))
        if top:
            self.sketch = <Sketch *> calloc(1, sizeof(Sketch))
        if self.stripes == NULL or (top and self.sketch == NULL):
            raise MemoryError("no memory for a limiter's counters")
        for i, one in enumerate(parameters):
            build_table(&self.tables[i], self.clock, one, max_keys, when_full)
        self.most_cost = least_capacity(parameters)
        self.limit_count = len(parameters)

    def __dealloc__(self):
        cdef int i
        for i in range(MAX_LIMITS):
            free_table(&self.tables[i])
        if self.stripes != NULL:
            unmap_pages(self.stripes, STRIPES * sizeof(Stripe))
        free(self.sketch)

    @cython.always_allow_keywords(False)
    def allow(self, key, /):
        """Charge cost 1 if the limit has room, and say whether it had: the fastest path. Returns a bool.

        `key` is a str, bytes or a tuple of them, at most 4,096 bytes (TypeError, ValueError).
        """
        cdef Hash hash
        open_call(self, key, &hash)
        if allow_at(self, &hash, NULL, clock_now(self.clock), 1):
            return True
        note(self.sketch, key, &hash)
        return False

    def acquire(self, key, cost=1):
        """Charge `cost` units if the limit has room for all of them. Returns a Decision.

        A cost of 0 is a peek and always allowed. Raises CostExceedsLimit for one above what the limit can ever grant,
        ValueError and TypeError for what is no cost or no key, before anything changes.
        """
        cdef Hash hash
        open_call(self, key, &hash)
        return acquire_at(self, key, &hash, NULL, cost)

    def peek(self, key, cost=1):
        """What `acquire(key, cost)` would decide now, consuming nothing: `remaining` is without the call. Returns a Decision."""
        cdef Hash hash
        open_call(self, key, &hash)
        return peek_at(self, &hash, cost)

    def refund(self, key, cost=1):
        """Give `cost` units back, never above fresh; always allowed. Returns a Decision with what is left now."""
        cdef Hash hash
        open_call(self, key, &hash)
        return settle_at(self, &hash, REFUND, cost)

    def debit(self, key, cost=1):
        """Charge `cost` units after the fact, whether or not there is room, at most one further capacity into debt.

        Returns a Decision with what is left now. What exceeds the bottom is dropped and counted in `stats()`.
        """
        cdef Hash hash
        open_call(self, key, &hash)
        return settle_at(self, &hash, DEBIT, cost)

    def reset(self, key):
        """Make `key` fresh again, whatever it owes."""
        cdef Hash hash
        open_call(self, key, &hash)
        operate_at(self, &hash, RESET, 0)

    def allow_many(self, keys, costs=None):
        """Decide on a batch at one clock reading, in order. Returns bytes: 1 for each call allowed, 0 for each denied.

        `keys` is any iterable of keys, `costs` as many ints or None for 1 each. Everything is checked first: a bad element
        raises what a single call would, with its index, and charges nothing. Large batches release the GIL.
        """
        cdef tuple batch = batch_of(keys, "keys")
        cdef tuple batch_costs = None if costs is None else batch_of(costs, "costs")
        cdef Py_ssize_t size = len(batch)
        cdef bytes verdicts = PyBytes_FromStringAndSize(NULL, size)
        cdef unsigned char *verdict = <unsigned char *> PyBytes_AS_STRING(verdicts)
        cdef Hash *hashes = NULL
        cdef uint64_t *units = NULL
        cdef Py_ssize_t i
        require_built(self)
        if batch_costs is not None and len(batch_costs) != size:
            raise ValueError(f"costs must be as many as keys, {size}, not {len(batch_costs)}")
        try:
            hashes = <Hash *> malloc((size or 1) * sizeof(Hash))
            if batch_costs is not None:
                units = <uint64_t *> malloc((size or 1) * sizeof(uint64_t))
            if hashes == NULL or (batch_costs is not None and units == NULL):
                raise MemoryError(f"no memory for a batch of {size} keys")
            hash_batch(self, batch, hashes)
            if batch_costs is not None:
                cost_batch(self, batch_costs, units)
            if size >= NOGIL_FROM:
                with nogil:
                    decide_batch(self, hashes, units, size, verdict)
            else:
                decide_batch(self, hashes, units, size, verdict)
            if self.sketch != NULL:
                for i in range(size):
                    if not verdict[i]:
                        note(self.sketch, <object> PyTuple_GET_ITEM(batch, i), &hashes[i])
        finally:
            free(hashes)
            free(units)
        return verdicts

    def bucket(self, key):
        """A handle on one key that skips hashing and look-up. Returns a Bucket."""
        return Bucket(self, key)

    def top(self, n=10):
        """The worst offenders: up to `n` pairs (key, denied), most denied first, of 64 that are kept.

        Counts are never too low, and too high by at most a 64th of all refusals. Keys longer than 64 bytes are cut. Empty
        with `top=False`.
        """
        if not isinstance(n, int) or isinstance(n, bool) or n < 0:
            raise ValueError(f"n must be an int of 0 or more, not {n!r}")
        cdef int i
        found = []
        if self.sketch != NULL:
            for i in range(ENTRIES):
                if self.sketch.entries[i].count:
                    found.append((name_of(&self.sketch.entries[i]), self.sketch.entries[i].count))
        found.sort(key=lambda pair: pair[1], reverse=True)
        return found[:n]

    def _counts(self):
        """(allowed, denied, keys, full_events, clamped_debits, lost_on_full, table_bytes)"""
        cdef Stripe sum
        cdef uint64_t keys = 0, full = 0, clamped = 0, lost = 0, size = 0
        cdef int i
        require_built(self)
        sum = total(self.stripes)
        with nogil:
            for i in range(self.limit_count):
                keys = max(keys, count_keys(&self.tables[i]))
                full += load_relaxed(&self.tables[i].header.full_events)
                clamped += load_relaxed(&self.tables[i].header.clamped_debits)
                lost += load_relaxed(&self.tables[i].header.lost_on_full)
                size += table_bytes(self.tables[i].slot_count)
        return sum.allowed, sum.denied, keys, full, clamped, lost, size

    def _update(self, tuple parameters not None, list names not None):
        """Put other numbers under the same algorithms; the caller has checked them and holds a lock."""
        cdef Header *header
        cdef uint32_t version
        require_built(self)
        for i, one in enumerate(parameters):
            header = self.tables[i].header
            version = (header.version + 1) % VERSIONS
            header.limits[version] = limit_of(one)
            publish_u32(&header.version, version)
            with nogil:
                sweep(&self.tables[i])
            self.names[i] = names[i]
        store_relaxed(&self.most_cost, least_capacity(parameters))

    def __reduce__(self):
        raise TypeError("a limiter cannot be pickled or copied: its buckets live in this process; build one from its limits")


cdef uint64_t least_capacity(tuple parameters) except? 0:
    return min([one.capacity for one in parameters])


cdef int require_built(Engine self) except -1:
    if self.limit_count == 0:
        raise RuntimeError("this limiter is not built: its __init__ was not called")
    return 0


# ---- one call

cdef inline int open_call(Engine self, object key, Hash *hash) except -1:
    if self.limit_count == 0:
        require_built(self)
    hash_key(key, self.secret, hash)
    prefetch_home(&self.tables[0], hash)
    return 0


cdef inline int64_t charged_cost(Engine self, object cost) except -1:
    """A cost that the limits can grant."""
    cdef int64_t value = any_cost(cost)
    if <uint64_t> value > load_relaxed(&self.most_cost):
        raise CostExceedsLimit(
            f"cost {cost} is above what {' and '.join(self.names)} can ever grant, {load_relaxed(&self.most_cost)};"
            " split the call or raise the limit"
        )
    return value


cdef inline bint allow_one(Table *table, const Hash *hash, Slot **hint, int64_t now, uint64_t cost) noexcept nogil:
    cdef Trace quick, full
    return decide(table, hash, hint, cost, now, &quick, &full) == DONE


cdef bint allow_several(Engine self, const Hash *hash, Slot **hints, int64_t now, uint64_t cost) noexcept nogil:
    cdef Charge[MAX_LIMITS] charges
    prepare(self, hash, hints, cost, charges)
    return charge_prepared(self, hints, charges, now)


cdef inline bint charge_prepared(Engine self, Slot **hints, Charge *charges, int64_t now) noexcept nogil:
    cdef bint allowed = charge_all(charges, self.limit_count, now)
    cdef int i
    if hints != NULL:
        for i in range(self.limit_count):
            hints[i] = charges[i].slot
    return allowed


cdef inline bint allow_at(Engine self, const Hash *hash, Slot **hints, int64_t now, uint64_t cost) noexcept nogil:
    """Decide and count, for a bool."""
    cdef bint allowed
    if self.limit_count == 1:
        allowed = allow_one(&self.tables[0], hash, hints, now, cost)
    else:
        allowed = allow_several(self, hash, hints, now, cost)
    count(self.stripes, allowed, not allowed)
    return allowed


cdef inline void prepare(Engine self, const Hash *hash, Slot **hints, uint64_t cost, Charge *charges) noexcept nogil:
    cdef int i
    for i in range(self.limit_count):
        charges[i].table = &self.tables[i]
        charges[i].key = hash[0]
        charges[i].cost = cost
        charges[i].slot = hints[i] if hints != NULL else NULL


cdef Decision acquire_at(Engine self, object key, const Hash *hash, Slot **hints, object cost):
    """Charge, count, and remember who was refused."""
    cdef Charge[MAX_LIMITS] charges
    cdef Trace trace
    cdef Answer whole
    cdef int binding
    cdef Decision decision
    cdef uint64_t units = charged_cost(self, cost)
    cdef int64_t now = clock_now(self.clock)
    if units == 0:
        return operate_at(self, hash, PEEK, 0)
    if self.limit_count == 1:
        decide(&self.tables[0], hash, hints, units, now, &trace, &trace)
        decision = decision_of(answer(&self.tables[0], &trace, CHARGE), <str> self.names[0])
    else:
        prepare(self, hash, hints, units, charges)
        charge_prepared(self, hints, charges, now)
        binding = combine_all(charges, self.limit_count, CHARGE, &whole)
        decision = decision_of(whole, <str> self.names[binding])
    count(self.stripes, decision.allowed, not decision.allowed)
    if not decision.allowed:
        note(self.sketch, key, hash)
    return decision


cdef Decision peek_at(Engine self, const Hash *hash, object cost):
    return operate_at(self, hash, PEEK, charged_cost(self, cost))


cdef Decision settle_at(Engine self, const Hash *hash, Operation operation, object cost):
    """A debit or a refund; of nothing, a look."""
    cdef uint64_t units = settled_cost(cost)
    return operate_at(self, hash, operation if units else PEEK, units)


cdef Decision operate_at(Engine self, const Hash *hash, Operation operation, uint64_t cost):
    """An operation on every limit of a key that is no charge and is not counted."""
    cdef Charge[MAX_LIMITS] charges
    cdef Answer whole
    cdef int64_t now = clock_now(self.clock)
    cdef int i
    for i in range(self.limit_count):
        charges[i].table = &self.tables[i]
        operate(&self.tables[i], hash, operation, cost, now, &charges[i].trace)
    i = combine_all(charges, self.limit_count, operation, &whole)
    return decision_of(whole, <str> self.names[i])


cdef inline int combine_all(const Charge *charges, int number, Operation operation, Answer *whole) noexcept nogil:
    """One answer from several tables' traces. Returns the number of the binding one."""
    cdef Answer one
    cdef int binding = 0
    cdef int i
    whole[0] = answer(charges[0].table, &charges[0].trace, operation)
    for i in range(1, number):
        one = answer(charges[i].table, &charges[i].trace, operation)
        if combine(whole, &one):
            binding = i
    return binding


# ---- batches

cdef tuple batch_of(object given, str what):
    if isinstance(given, str | bytes) or not hasattr(given, "__iter__"):
        raise TypeError(f"{what} must be an iterable of {what}, not {type(given).__name__}")
    return tuple(given)


cdef int hash_batch(Engine self, tuple batch, Hash *hashes) except -1:
    """Two cache lines of each key are asked for ahead of its turn: the header, and where a short text may end."""
    cdef Py_ssize_t size = len(batch)
    cdef Py_ssize_t i
    cdef const char *ahead
    for i in range(size):
        if i + PREFETCH_AHEAD < size:
            ahead = <const char *> PyTuple_GET_ITEM(batch, i + PREFETCH_AHEAD)
            prefetch(ahead)
            prefetch(ahead + 64)
        try:
            hash_key(<object> PyTuple_GET_ITEM(batch, i), self.secret, &hashes[i])
        except (TypeError, ValueError) as error:
            raise type(error)(f"keys[{i}]: {error}") from None
    return 0


cdef int cost_batch(Engine self, tuple costs, uint64_t *units) except -1:
    cdef Py_ssize_t i
    for i in range(len(costs)):
        try:
            units[i] = charged_cost(self, <object> PyTuple_GET_ITEM(costs, i))
        except (TypeError, ValueError) as error:
            raise type(error)(f"costs[{i}]: {error}") from None
    return 0


cdef void decide_batch(
    Engine self, const Hash *hashes, const uint64_t *units, Py_ssize_t size, unsigned char *verdicts
) noexcept nogil:
    cdef Table *table = &self.tables[0]
    cdef int64_t now = clock_now(self.clock)
    cdef uint64_t cost = 1
    cdef Py_ssize_t allowed = 0
    cdef Py_ssize_t i
    for i in range(min(size, PREFETCH_AHEAD)):
        prefetch_home(table, &hashes[i])
    for i in range(size):
        if i + PREFETCH_AHEAD < size:
            prefetch_home(table, &hashes[i + PREFETCH_AHEAD])
        if units != NULL:
            cost = units[i]
        if cost == 0:
            verdicts[i] = True
        elif self.limit_count == 1:
            verdicts[i] = allow_one(table, &hashes[i], NULL, now, cost)
        else:
            verdicts[i] = allow_several(self, &hashes[i], NULL, now, cost)
        allowed += verdicts[i]
    count(self.stripes, allowed, size - allowed)


# ---- handles

@cython.final
cdef class Bucket:
    """A handle on one key of a limiter: the same calls without hashing and look-up. Keeps the limiter alive.

    It remembers where the key's slot was, checks at each call that it still is the key's, and looks it up again if not.

    Thread-safety: as the limiter's; share one handle, or make one per thread.
    """

    def __cinit__(self, Engine limiter not None, key):
        require_built(limiter)
        hash_key(key, limiter.secret, &self.hash)
        self.limiter = limiter
        self.key = key

    def allow(self):
        """As `Limiter.allow`."""
        if allow_at(self.limiter, &self.hash, self.slots, clock_now(self.limiter.clock), 1):
            return True
        note(self.limiter.sketch, self.key, &self.hash)
        return False

    def acquire(self, cost=1):
        """As `Limiter.acquire`."""
        return acquire_at(self.limiter, self.key, &self.hash, self.slots, cost)

    def peek(self, cost=1):
        """As `Limiter.peek`."""
        return peek_at(self.limiter, &self.hash, cost)

    def refund(self, cost=1):
        """As `Limiter.refund`."""
        return settle_at(self.limiter, &self.hash, REFUND, cost)

    def debit(self, cost=1):
        """As `Limiter.debit`."""
        return settle_at(self.limiter, &self.hash, DEBIT, cost)

    def reset(self):
        """As `Limiter.reset`."""
        operate_at(self.limiter, &self.hash, RESET, 0)

    def __repr__(self):
        return f"<Bucket {self.key!r} of {self.limiter!r}>"

    def __reduce__(self):
        raise TypeError("a Bucket cannot be pickled or copied: its limiter lives in this process")


cdef bint bucket_allow(Bucket bucket, int64_t now, uint64_t cost) noexcept nogil:
    if cost == 0:
        return True
    if cost > load_relaxed(&bucket.limiter.most_cost):
        count(bucket.limiter.stripes, 0, 1)
        return False
    return allow_at(bucket.limiter, &bucket.hash, bucket.slots, now, cost)


cdef int64_t bucket_now(Bucket bucket) noexcept nogil:
    return clock_now(bucket.limiter.clock)


# ---- several limiters

cdef struct Member:  # of an acquire_all: one limiter and one key, both kept alive by the caller's triples
    PyObject *engine
    PyObject *key
    Hash hash
    int64_t cost
    int first  # of its charges


def acquire_all(triples):
    """Charge several limiters, or none of them. Returns a Decision, whose `name` says which limit is the binding one.

    `triples` are 1 to 8 tuples (limiter, key, cost); those with the same limiter and key are added up first. All limiters
    must share one clock (ValueError). A concurrent call may be refused by a charge that is about to be rolled back; nothing
    is ever admitted in excess. Errors as in `Limiter.acquire`, with the index of the triple, before anything changes.
    """
    cdef Member[MAX_ACQUIRE] members
    cdef Charge[MAX_ACQUIRE * MAX_LIMITS] charges
    cdef tuple given = tuple(triples)
    cdef Answer whole
    cdef int binding, i = 0, number = 0, member_count = 0
    if not 1 <= len(given) <= MAX_ACQUIRE:
        raise ValueError(f"acquire_all takes from 1 to {MAX_ACQUIRE} triples (limiter, key, cost), not {len(given)}")
    try:
        for i in range(<int> len(given)):
            member_count = add_member(<object> PyTuple_GET_ITEM(given, i), members, member_count)
    except (TypeError, ValueError) as error:
        raise type(error)(f"triples[{i}]: {error}") from None
    for i in range(member_count):
        members[i].first = number
        prepare(<Engine> members[i].engine, &members[i].hash, NULL, members[i].cost, &charges[number])
        number += (<Engine> members[i].engine).limit_count
    charge_all(charges, number, clock_now((<Engine> members[0].engine).clock))
    binding = combine_all(charges, number, CHARGE, &whole)
    for i in range(member_count):
        count_member(&members[i], charges, whole.allowed)
    i = member_count - 1
    while members[i].first > binding:
        i -= 1
    return decision_of(whole, <str> (<Engine> members[i].engine).names[binding - members[i].first])


cdef int add_member(object triple, Member *members, int member_count) except -1:
    """Add a triple to those before it: to the one with the same limiter and key, or as one more. Returns how many there are."""
    cdef Engine engine
    cdef Member *member = &members[member_count]
    cdef int i
    if not isinstance(triple, tuple) or len(<tuple> triple) != 3:
        raise TypeError(f"must be a tuple (limiter, key, cost), not {triple!r}")
    if not isinstance((<tuple> triple)[0], Engine):
        raise TypeError(f"must begin with a Limiter, not {type(triple[0]).__name__}")
    engine = <Engine> (<tuple> triple)[0]
    member.engine = <PyObject *> engine
    member.key = PyTuple_GET_ITEM(triple, 1)
    open_call(engine, <object> member.key, &member.hash)
    member.cost = charged_cost(engine, (<tuple> triple)[2])
    if engine.clock != (<Engine> members[0].engine).clock:
        raise ValueError("its limiter has another clock than the first one; give both the same clock")
    for i in range(member_count):
        if members[i].engine == member.engine and is_same_key(&members[i].hash, &member.hash):
            members[i].cost = charged_cost(engine, members[i].cost + <object> member.cost)
            return member_count
    return member_count + 1


cdef int count_member(const Member *member, const Charge *charges, bint admitted) except -1:
    """An admitted call counts on every limiter, a refused one on those that refused it; a peek counts on none."""
    cdef Engine engine = <Engine> member.engine
    cdef bint refused = False
    cdef int i
    for i in range(member.first, member.first + engine.limit_count):
        refused = refused or not charges[i].trace.allowed
    if member.cost and admitted:
        count(engine.stripes, 1, 0)
    elif refused:
        count(engine.stripes, 0, 1)
        note(engine.sketch, <object> member.key, &member.hash)
    return 0
