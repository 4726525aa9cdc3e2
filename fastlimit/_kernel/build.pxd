"""Making a table: its size, its memory, its first limit."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from fastlimit.algorithms.dispatch cimport SLIDING_LOG
from fastlimit.algorithms.outcome cimport Limit
from .clock cimport Clock
from .hashing cimport Hash
from .pages cimport map_pages, unmap_pages
from .ring cimport Entry
from .scale cimport NO_BASE
from .slot cimport Slot, live_word
from .table cimport HEADER_BYTES, OVERFLOW_SLOTS, WINDOW, Header, Table, overflow_key


cdef inline Limit limit_of(object given):
    """`fastlimit.limits.Parameters` in C."""
    cdef Limit limit
    memset(&limit, 0, sizeof(limit))
    (limit.algorithm, limit.capacity, limit.emission_interval, limit.tolerance, limit.window, limit.months,
     limit.multiplier, limit.offset, limit.epoch) = given
    if limit.window:
        limit.reciprocal = 2**64 // given.window if given.window > 1 else 0
    return limit


cdef inline size_t table_bytes(uint64_t slot_count) noexcept nogil:
    return HEADER_BYTES + (slot_count + OVERFLOW_SLOTS) * sizeof(Slot)


cdef inline uint64_t lines_for(uint64_t max_keys) noexcept nogil:
    """Room for `max_keys` at load 0.75, two slots to a line."""
    return (max_keys * 2 + 2) // 3


cdef inline uint64_t slots_for(uint64_t max_keys) noexcept nogil:
    """With a window at the end, so that no search wraps."""
    return 2 * lines_for(max_keys) + WINDOW


cdef inline uint32_t ring_length(const Limit *limit) noexcept nogil:
    """Entries for four times the capacity (see `ring`), rounded up to a power of two; 0 if no log."""
    cdef uint32_t length = 4
    if limit.algorithm != SLIDING_LOG:
        return 0
    while length < 4 * limit.capacity:
        length *= 2
    return length


cdef inline size_t log_bytes(uint64_t slot_count, uint32_t ring_length) noexcept nogil:
    return (slot_count + OVERFLOW_SLOTS) * ring_length * sizeof(Entry)


cdef inline int build_table(
    Table *table, Clock *clock, object parameters, int64_t max_keys, uint32_t when_full
) except -1:
    cdef Hash key
    cdef Slot *slot
    cdef uint64_t slot_count = slots_for(max_keys)
    cdef Header *header = <Header *> map_pages(table_bytes(slot_count))
    cdef int i
    if header == NULL:
        raise MemoryError(
            f"no memory for max_keys={max_keys:,}: {table_bytes(slot_count):,} bytes of address space"
        )
    table.header = header
    table.slots = <Slot *> (<char *> header + HEADER_BYTES)
    table.lines = lines_for(max_keys)
    table.slot_count = slot_count
    table.clock = clock
    header.limits[0] = limit_of(parameters)
    header.cumulative = header.limits[0].tolerance != 0 or header.limits[0].algorithm == SLIDING_LOG
    header.when_full = when_full
    header.base = NO_BASE
    for i in range(OVERFLOW_SLOTS):
        slot = table.slots + slot_count + i
        key = overflow_key(table, slot)
        slot.identity = <uint64_t> key.ext << 32
        slot.hi = live_word(0, 0, key.tag, 0).hi
    return build_log(table)


cdef inline int build_log(Table *table) except -1:
    cdef size_t size
    table.ring_length = ring_length(&table.header.limits[0])
    if table.ring_length:
        size = log_bytes(table.slot_count, table.ring_length)
        table.entries = <Entry *> map_pages(size)
        if table.entries == NULL:
            raise MemoryError(f"no memory for a sliding log: {size:,} bytes of address space")
    return 0


cdef inline void free_table(Table *table) noexcept nogil:
    if table.header != NULL:
        unmap_pages(table.header, table_bytes(table.slot_count))
        table.header = NULL
    if table.entries != NULL:
        unmap_pages(table.entries, log_bytes(table.slot_count, table.ring_length))
        table.entries = NULL
