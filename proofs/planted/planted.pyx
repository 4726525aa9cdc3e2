# cython: language_level=3, binding=False, freethreading_compatible=True
"""One bug for each sanitizer, on the engine's own words and limits, built as the engine is.

`proofs/sanitizers.py` counts on a report of each: what finds nothing here would find nothing there.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fastlimit._kernel.slot cimport Slot, Word, live_word, read_word, swap
from fastlimit.algorithms.outcome cimport Limit

cdef extern from "pthread.h" nogil:
    ctypedef unsigned long pthread_t
    int pthread_create(
        pthread_t *thread, const void *attributes, void *(*start)(void *) noexcept nogil, void *given
    ) noexcept
    int pthread_join(pthread_t thread, void **result) noexcept

cdef enum:
    ROUNDS = 100_000
    THREADS = 2


cdef struct Charging:
    Slot *slot
    bint stores


cdef void *charge(void *given) noexcept nogil:
    cdef Charging *charging = <Charging *> given
    cdef Word word, after
    cdef int _
    for _ in range(ROUNDS):
        word = read_word(charging.slot)
        after = live_word(0, word.lo + 1, 1, 1)
        if charging.stores:
            charging.slot.lo = after.lo
            charging.slot.hi = after.hi
        else:
            swap(charging.slot, &word, &after)
    return NULL


def race(stores):
    """Two threads charge one slot: by plain stores, or, as the kernel does, by swaps."""
    cdef Slot[1] slots
    cdef Charging charging
    cdef pthread_t[THREADS] threads
    cdef int i
    memset(slots, 0, sizeof(slots))
    charging.slot = &slots[0]
    charging.stores = stores
    with nogil:
        for i in range(THREADS):
            pthread_create(&threads[i], NULL, charge, &charging)
        for i in range(THREADS):
            pthread_join(threads[i], NULL)


def overflow(int64_t interval, int64_t cost):
    """What a charge costs in a limit's units, as if it always fitted."""
    return interval * cost


def overrun(int slots):
    """Reads the slot behind the last one."""
    cdef Slot *table = <Slot *> malloc(slots * sizeof(Slot))
    memset(table, 0, slots * sizeof(Slot))
    cdef uint64_t word = table[slots].lo
    free(table)
    return word


def leak(int number):
    """Loses that many limits."""
    cdef Limit *limit
    cdef int _
    for _ in range(number):
        limit = <Limit *> malloc(sizeof(Limit))
        memset(limit, 0, sizeof(Limit))
        limit.capacity = 1
