"""Every atomic operation of the kernel, and why its order suffices.

word       the 16-byte compare-and-swap of a slot. The `__sync` builtin is a full barrier and is always
           inlined (`cmpxchg16b`, or `caspal` / libgcc's outline atomics on arm64); the `__atomic` one may
           become a library call that hides a lock, which would be wrong between processes.
acquire    loads of a slot's halves and identity. Their partner is the compare-and-swap that stored the value:
           identity is settled before a word goes live, so whoever sees a live word sees its identity.
publish    a release store; its partner is an acquire load of the same cell.
parameter  a field of a limit (`outcome.pxd`): `_Atomic`, at least an acquire load and a release store, one by
           one. Whoever reads one that an update wrote also sees the version that it found in force.
relaxed    statistics, the manual clock, and the slots that handles remember, which order nothing.
dekker     between a claim becoming visible and the search for rivals: store, then load. Two claimers must not
           both miss each other. The locked instruction of the claim is a full barrier on x86; elsewhere a
           fence is needed, because an acquire load may pass an earlier release store (RCpc). The same between
           taking a place in a queue and looking for room, and between making room and looking who waits.
full       between moving a manual clock and looking who sleeps on it, and between going to sleep and reading
           it: store, then load, where no locked instruction comes in between.

The halves of a word are loaded one by one, so a pair may be torn. A torn pair is never acted on: a write
succeeds only from exactly what was read, and a refusal reads both again.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from * nogil:
    """
    #include <stdint.h>

    #if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    #error "fastlimit needs a little-endian machine"
    #endif

    typedef unsigned __int128 fl_u128 __attribute__((may_alias));

    static inline int fl_cas_word(
        void *word, uint64_t old_lo, uint64_t old_hi, uint64_t new_lo, uint64_t new_hi
    ) {
        return __sync_bool_compare_and_swap((fl_u128 *)word, (fl_u128)old_hi << 64 | old_lo,
                                            (fl_u128)new_hi << 64 | new_lo);
    }
    static inline int fl_cas_u64(uint64_t *cell, uint64_t old_value, uint64_t new_value) {
        return __sync_bool_compare_and_swap(cell, old_value, new_value);
    }
    #define fl_load_acquire(cell) __atomic_load_n((cell), __ATOMIC_ACQUIRE)
    #define fl_load_relaxed(cell) __atomic_load_n((cell), __ATOMIC_RELAXED)
    #define fl_store_relaxed(cell, value) __atomic_store_n((cell), (value), __ATOMIC_RELAXED)
    #define fl_publish(cell, value) __atomic_store_n((cell), (value), __ATOMIC_RELEASE)
    #define fl_add(cell, value) (void)__atomic_fetch_add((cell), (value), __ATOMIC_RELAXED)
    #if defined(__x86_64__)
    #define fl_dekker_fence() ((void)0)
    #else
    #define fl_dekker_fence() __atomic_thread_fence(__ATOMIC_SEQ_CST)
    #endif
    #define fl_full_fence() __atomic_thread_fence(__ATOMIC_SEQ_CST)
    #define fl_prefetch(address) __builtin_prefetch((address))
    """
    bint cas_word "fl_cas_word"(
        void *word, uint64_t old_lo, uint64_t old_hi, uint64_t new_lo, uint64_t new_hi
    ) noexcept
    bint cas_u64 "fl_cas_u64"(uint64_t *cell, uint64_t old_value, uint64_t new_value) noexcept
    uint64_t load_acquire "fl_load_acquire"(const uint64_t *cell) noexcept
    uint32_t load_acquire_u32 "fl_load_acquire"(const uint32_t *cell) noexcept
    uint64_t load_relaxed "fl_load_relaxed"(const uint64_t *cell) noexcept
    uint32_t load_relaxed_u32 "fl_load_relaxed"(const uint32_t *cell) noexcept
    int64_t load_relaxed_i64 "fl_load_relaxed"(const int64_t *cell) noexcept
    void store_relaxed "fl_store_relaxed"(uint64_t *cell, uint64_t value) noexcept
    void store_relaxed_u32 "fl_store_relaxed"(uint32_t *cell, uint32_t value) noexcept
    void store_relaxed_i64 "fl_store_relaxed"(int64_t *cell, int64_t value) noexcept
    void publish_u32 "fl_publish"(uint32_t *cell, uint32_t value) noexcept
    void add "fl_add"(uint64_t *cell, uint64_t value) noexcept
    void dekker_fence "fl_dekker_fence"() noexcept
    void full_fence "fl_full_fence"() noexcept
    void prefetch "fl_prefetch"(const void *address) noexcept
