"""How many calls were allowed and denied: a stripe per thread, summed when read.

A stripe is one cache line that one thread owns while it lives, so that counting is an ordinary add; the
totals of threads that ended stay in it. More threads than stripes share the last one, with atomic adds.
Nothing is lost either way.
"""

from libc.stdint cimport uint64_t

from .atomics cimport add, load_relaxed, store_relaxed

cdef enum:
    STRIPES = 64

cdef extern from * nogil:
    """
    #include <pthread.h>

    typedef struct __attribute__((aligned(64))) { uint64_t allowed, denied; } fl_stripe;

    #if defined(__GLIBC__)
    #define FL_THREAD_LOCAL static __thread __attribute__((tls_model("initial-exec")))
    #else
    #define FL_THREAD_LOCAL static __thread
    #endif
    FL_THREAD_LOCAL int fl_own_stripe;   /* stripe + 1; 0: not asked for yet; -1: the shared one */
    static uint64_t fl_stripes_taken;    /* a bit for each stripe that a thread owns */
    static pthread_key_t fl_stripe_key;
    static pthread_once_t fl_stripe_once = PTHREAD_ONCE_INIT;

    static void fl_return_stripe(void *own) {
        __atomic_fetch_and(&fl_stripes_taken, ~(UINT64_C(1) << ((intptr_t)own - 1)), __ATOMIC_RELEASE);
        fl_own_stripe = 0;
    }
    static void fl_make_stripe_key(void) { pthread_key_create(&fl_stripe_key, fl_return_stripe); }

    static __attribute__((noinline, unused)) int fl_take_stripe(void) {
        uint64_t taken = __atomic_load_n(&fl_stripes_taken, __ATOMIC_ACQUIRE);
        pthread_once(&fl_stripe_once, fl_make_stripe_key);
        fl_own_stripe = -1;
        while (~taken << 1) {  /* one of the first 63 is free */
            int stripe = __builtin_ctzll(~taken);
            if (__atomic_compare_exchange_n(&fl_stripes_taken, &taken, taken | UINT64_C(1) << stripe, 0,
                                            __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
                pthread_setspecific(fl_stripe_key, (void *)(intptr_t)(stripe + 1));
                fl_own_stripe = stripe + 1;
                break;
            }
        }
        return fl_own_stripe;
    }
    """
    ctypedef struct Stripe "fl_stripe":
        uint64_t allowed
        uint64_t denied

    int own_stripe "fl_own_stripe"
    int take_stripe "fl_take_stripe"() noexcept


cdef inline void count(Stripe *stripes, uint64_t allowed, uint64_t denied) noexcept nogil:
    cdef Stripe *stripe
    if own_stripe <= 0 and (own_stripe < 0 or take_stripe() < 0):
        add(&stripes[STRIPES - 1].allowed, allowed)
        add(&stripes[STRIPES - 1].denied, denied)
        return
    stripe = &stripes[own_stripe - 1]
    if allowed:
        store_relaxed(&stripe.allowed, load_relaxed(&stripe.allowed) + allowed)
    if denied:
        store_relaxed(&stripe.denied, load_relaxed(&stripe.denied) + denied)


cdef inline Stripe total(const Stripe *stripes) noexcept nogil:
    cdef Stripe sum
    cdef int i
    sum.allowed = sum.denied = 0
    for i in range(STRIPES):
        sum.allowed += load_relaxed(&stripes[i].allowed)
        sum.denied += load_relaxed(&stripes[i].denied)
    return sum
