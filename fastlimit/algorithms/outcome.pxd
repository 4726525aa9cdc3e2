"""What the algorithms take and give; names and meanings as in `outcome.py`."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastlimit._kernel.hashing cimport high_product

cdef extern from * nogil:
    """
    typedef unsigned __int128 fl_wide;
    """
    ctypedef unsigned long long wide "fl_wide"  # 128 bits in C, whatever Cython takes it for


cdef struct Limit:
    uint64_t capacity
    uint64_t emission_interval
    uint64_t tolerance
    uint64_t window
    uint64_t reciprocal  # 2^64 / window, rounded down
    uint64_t multiplier
    uint64_t offset
    uint32_t months
    uint32_t algorithm
    bint epoch


cdef struct State:
    uint64_t body
    uint32_t count


cdef struct Report:
    uint64_t remaining
    uint64_t allowed_at
    uint64_t fresh_at
    uint64_t starts_at


cdef inline uint64_t at_least(uint64_t a, uint64_t b) noexcept nogil:
    return a if a > b else b


cdef inline uint64_t at_most(uint64_t a, uint64_t b) noexcept nogil:
    return a if a < b else b


cdef inline uint64_t less(uint64_t a, uint64_t b) noexcept nogil:
    """a - b, or 0 where that is negative."""
    return a - b if a > b else 0
