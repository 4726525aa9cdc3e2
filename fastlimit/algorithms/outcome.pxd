"""What the algorithms take and give; names and meanings as in `outcome.py`."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from * nogil:
    """
    #include <stdatomic.h>
    #include <stdint.h>

    /* 128-bit intermediates; in C, because Cython would cut them to 64 bits wherever it needs a temporary. */
    typedef unsigned __int128 fl_wide;

    static inline uint64_t fl_saturate(fl_wide value) { return value >> 64 ? UINT64_MAX : (uint64_t)value; }
    static inline uint64_t fl_high_product(uint64_t a, uint64_t b) {
        return (uint64_t)((fl_wide)a * b >> 64);
    }
    static inline int fl_product_above(uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
        return (fl_wide)a * b > (fl_wide)c * d;
    }
    static inline uint64_t fl_ratio_down(uint64_t a, uint64_t b, uint64_t c) {
        return fl_saturate((fl_wide)a * b / c);
    }
    static inline uint64_t fl_ratio_up(uint64_t a, uint64_t b, uint64_t c) {
        return fl_saturate(((fl_wide)a * b + (c - 1)) / c);
    }
    static inline uint64_t fl_shifted_ratio_up(uint64_t a, uint64_t c) {
        return fl_saturate((((fl_wide)a << 64) + (c - 1)) / c);
    }

    /* Atomic, because an update may write the fields while a call in flight reads them; who reads a mixture
       finds out (`table.pxd`). The same instructions on x86 as if they were not. */
    typedef struct {
        _Atomic(uint64_t) capacity, emission_interval, tolerance, window, reciprocal, multiplier, offset;
        _Atomic(uint32_t) months, algorithm, epoch;
    } fl_limit;

    static inline void fl_copy_limit(fl_limit *to, const fl_limit *from) {
        #define FL_COPY(field) atomic_store_explicit( \
            &to->field, atomic_load_explicit(&from->field, memory_order_acquire), memory_order_release)
        FL_COPY(capacity);
        FL_COPY(emission_interval);
        FL_COPY(tolerance);
        FL_COPY(window);
        FL_COPY(reciprocal);
        FL_COPY(multiplier);
        FL_COPY(offset);
        FL_COPY(months);
        FL_COPY(algorithm);
        FL_COPY(epoch);
        #undef FL_COPY
    }
    """
    # a * b / 2^64; a * b > c * d; a * b / c; the same, rounded up; a * 2^64 / c, up. At most 2^64 - 1.
    uint64_t high_product "fl_high_product"(uint64_t a, uint64_t b) noexcept
    bint product_above "fl_product_above"(uint64_t a, uint64_t b, uint64_t c, uint64_t d) noexcept
    uint64_t ratio_down "fl_ratio_down"(uint64_t a, uint64_t b, uint64_t c) noexcept
    uint64_t ratio_up "fl_ratio_up"(uint64_t a, uint64_t b, uint64_t c) noexcept
    uint64_t shifted_ratio_up "fl_shifted_ratio_up"(uint64_t a, uint64_t c) noexcept

    ctypedef struct Limit "fl_limit":
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

    void copy_limit "fl_copy_limit"(Limit *to, const Limit *from_) noexcept


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
