"""One limiter in C: the tables of its limits, its clock and counters; what it does with one key, and many."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from fastlimit.algorithms.outcome cimport Limit, copy_limit
from .answer cimport Answer, answer, combine
from .atomics cimport load_relaxed, publish_u32
from .build cimport free_table, log_bytes, table_bytes
from .clock cimport Clock, clock_now
from .counters cimport STRIPES, Stripe, count, total
from .decide cimport Operation, Trace, admit, count_keys, decide, operate, sweep
from .hashing cimport SECRET_WORDS, Hash
from .pages cimport map_pages, unmap_pages
from .sketch cimport Sketch
from .slot cimport Slot, load_hint, store_hint
from .table cimport Header, Table, limit_at, prefetch_home
from .together cimport Charge, charge_all

cdef enum:
    MAX_LIMITS = 8
    PREFETCH_AHEAD = 16


cdef struct Engine:
    Table[MAX_LIMITS] tables
    int limit_count            # 0 until it is built
    uint64_t most_cost         # the least of the limits' capacities
    uint64_t[SECRET_WORDS] secret
    Clock *clock
    Stripe *stripes
    Sketch *sketch             # NULL: refused keys are not remembered


cdef struct Totals:
    Stripe calls
    uint64_t keys
    uint64_t full_events
    uint64_t clamped_debits
    uint64_t lost_on_full
    uint64_t table_bytes
    uint64_t log_bytes


cdef inline bint open_engine(Engine *engine, bint top) noexcept nogil:
    """Memory for all but the tables; False if there is none."""
    engine.stripes = <Stripe *> map_pages(STRIPES * sizeof(Stripe))
    if top:
        engine.sketch = <Sketch *> calloc(1, sizeof(Sketch))
    return engine.stripes != NULL and (engine.sketch != NULL or not top)


cdef inline void close_engine(Engine *engine) noexcept nogil:
    """Give all memory back, however much of it there is."""
    cdef int i
    for i in range(MAX_LIMITS):
        free_table(&engine.tables[i])
    if engine.stripes != NULL:
        unmap_pages(engine.stripes, STRIPES * sizeof(Stripe))
    free(engine.sketch)
    engine.stripes = NULL
    engine.sketch = NULL


cdef inline void change_limit(Engine *engine, int i, const Limit *limit) noexcept nogil:
    """Put another limit in force, as the next of the versions, and bring every slot to it.

    First to the one before, since an update may have died in its sweep: whoever is still in the version that
    is written anew would be misread.
    """
    cdef Header *header = engine.tables[i].header
    cdef uint32_t version = header.version + 1
    sweep(&engine.tables[i])
    copy_limit(limit_at(header, version), limit)
    publish_u32(&header.version, version)
    sweep(&engine.tables[i])


# ---- one key. `hints` are where a handle last found its slots, or NULL.

cdef inline void prepare(
    Engine *engine, const Hash *key, Slot **hints, uint64_t cost, Charge *charges
) noexcept nogil:
    cdef int i
    for i in range(engine.limit_count):
        charges[i].table = &engine.tables[i]
        charges[i].key = key
        charges[i].cost = cost
        charges[i].slot = load_hint(&hints[i]) if hints != NULL else NULL


cdef inline bint charge_prepared(
    Engine *engine, Slot **hints, int64_t *now, Charge *charges, bint reports
) noexcept nogil:
    """`now` is brought forward as by `admit`."""
    cdef bint allowed = charge_all(charges, engine.limit_count, now[0], reports)
    cdef int i
    for i in range(engine.limit_count):
        now[0] = max(now[0], charges[i].trace.now_ns)
        if hints != NULL:
            store_hint(&hints[i], charges[i].slot)
    return allowed


cdef inline bint admit_several(
    Engine *engine, const Hash *key, Slot **hints, uint64_t cost, int64_t *now
) noexcept nogil:
    cdef Charge[MAX_LIMITS] charges
    prepare(engine, key, hints, cost, charges)
    return charge_prepared(engine, hints, now, charges, False)


cdef inline bint admit_key(
    Engine *engine, const Hash *key, Slot **hints, uint64_t cost, int64_t *now
) noexcept nogil:
    """Charge and count, for a bool."""
    cdef bint allowed
    if engine.limit_count == 1:
        allowed = admit(&engine.tables[0], key, hints, cost, now)
    else:
        allowed = admit_several(engine, key, hints, cost, now)
    count(engine.stripes, allowed, not allowed)
    return allowed


cdef inline int charge_key(
    Engine *engine, const Hash *key, Slot **hints, uint64_t cost, int64_t now, Operation operation,
    Answer *whole
) noexcept nogil:
    """Charge and count, for a Decision. Returns the number of the binding limit."""
    cdef int binding = attempt_key(engine, key, hints, cost, now, operation, whole)
    count(engine.stripes, whole.allowed, not whole.allowed)
    return binding


cdef inline int attempt_key(
    Engine *engine, const Hash *key, Slot **hints, uint64_t cost, int64_t now, Operation operation,
    Answer *whole
) noexcept nogil:
    """Charge without counting: a call that waits is one call, however often it is tried."""
    cdef Charge[MAX_LIMITS] charges
    cdef Trace trace
    cdef int binding = 0
    if engine.limit_count == 1:
        decide(&engine.tables[0], key, hints, cost, now, &trace)
        answer(&engine.tables[0], &trace, operation, whole)
    else:
        prepare(engine, key, hints, cost, charges)
        charge_prepared(engine, hints, &now, charges, True)
        binding = combine_all(charges, engine.limit_count, operation, whole)
    return binding


cdef inline int operate_key(
    Engine *engine, const Hash *key, uint64_t cost, int64_t now, Operation operation, Answer *whole
) noexcept nogil:
    """An operation on every limit that is no charge and not counted. Returns the binding limit's number."""
    cdef Charge[MAX_LIMITS] charges
    cdef int i = 0
    while True:
        charges[i].table = &engine.tables[i]
        operate(&engine.tables[i], key, operation, cost, now, &charges[i].trace)
        i += 1
        if i == engine.limit_count:
            break
    return combine_all(charges, engine.limit_count, operation, whole)


cdef inline int combine_all(
    const Charge *charges, int number, Operation operation, Answer *whole
) noexcept nogil:
    """One answer from several tables' traces. Returns the number of the binding one."""
    cdef Answer one
    cdef int binding = 0
    cdef int i
    answer(charges[0].table, &charges[0].trace, operation, whole)
    for i in range(1, number):
        answer(charges[i].table, &charges[i].trace, operation, &one)
        if combine(whole, &one):
            binding = i
    return binding


# ---- many keys

cdef inline void admit_batch(
    Engine *engine, const Hash *keys, const int64_t *costs, Py_ssize_t size, unsigned char *verdicts
) noexcept nogil:
    """At one reading of the clock; a claim reads it again, and the rest of the batch is no earlier then."""
    cdef Table *table = &engine.tables[0]
    cdef int64_t now = clock_now(engine.clock)
    cdef uint64_t cost = 1
    cdef Py_ssize_t allowed = 0
    cdef Py_ssize_t looks = 0  # of cost 0, which count as nothing
    cdef Py_ssize_t i
    for i in range(min(size, PREFETCH_AHEAD)):
        prefetch_home(table, &keys[i])
    for i in range(size):
        if i + PREFETCH_AHEAD < size:
            prefetch_home(table, &keys[i + PREFETCH_AHEAD])
        if costs != NULL:
            cost = costs[i]
            looks += cost == 0
        verdicts[i] = cost == 0 or (
            admit(table, &keys[i], NULL, cost, &now) if engine.limit_count == 1
            else admit_several(engine, &keys[i], NULL, cost, &now)
        )
        allowed += verdicts[i]
    count(engine.stripes, allowed - looks, size - allowed)


# ---- figures

cdef inline Totals totals(Engine *engine) noexcept nogil:
    cdef Totals sum
    cdef Table *table
    cdef int i
    sum.calls = total(engine.stripes)
    sum.keys = sum.full_events = sum.clamped_debits = sum.lost_on_full = sum.table_bytes = sum.log_bytes = 0
    for i in range(engine.limit_count):
        table = &engine.tables[i]
        sum.keys = max(sum.keys, count_keys(table))
        sum.full_events += load_relaxed(&table.header.full_events)
        sum.clamped_debits += load_relaxed(&table.header.clamped_debits)
        sum.lost_on_full += load_relaxed(&table.header.lost_on_full)
        sum.table_bytes += table_bytes(table.slot_count)
        sum.log_bytes += log_bytes(table.slot_count, table.ring_length)
    return sum
