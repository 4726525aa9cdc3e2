"""The time of a decision: nanoseconds since boot, suspended time included, by the cycle counter if trusted.

`clock_gettime` costs more than the rest of a decision. So the counter is read instead and scaled from an
anchor (counter, time, rate), which is in force for one span: a second, less while the rate is young. Then the
next one is set against the system's clock. There are two anchors, the current one and the next; `generation`
says which, and a reader that meets a change takes the slow path.

    never back      An anchor that has run out told nobody more than where it ends. Who sets the next notes
                    `generation`, samples the system's clock, and publishes by swapping what it noted. Whoever
                    reads the system's clock meanwhile, because the setter is preempted or dead, swaps
                    `generation` first, which voids that sample. So between the sample of an anchor and its
                    publication nobody is told anything, however long that takes: it begins no earlier than
                    all that was told before.
    no waiting      for a setter, but for the moment that it needs if it is running; a fork harms nobody
    running ahead   time is slowed until it fits
    after a jump    (suspend, migration) forward at once, and the rate is measured from scratch: twice, and
                    believed when both agree, since there is nothing else to tell a jump in between by
    trusted         invariant (CPUID 8000_0007h, EDX 8) and the kernel's own clock source, or arm64's timer;
                    otherwise every reading is a `clock_gettime`

A counter that falls back while an anchor is in force takes time along, by less than the span; to notice, each
reading would have to be written down.

Windows of wall time use the same reading plus `wall_offset`, which is read anew with each anchor.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from .atomics cimport load_relaxed_i64

cdef extern from * nogil:
    """
    #include <fcntl.h>
    #include <pthread.h>
    #include <string.h>
    #include <time.h>
    #include <unistd.h>
    #if defined(__x86_64__)
    #include <cpuid.h>
    #include <x86intrin.h>
    #endif

    #ifdef CLOCK_BOOTTIME
    #define FL_CLOCK CLOCK_BOOTTIME
    #else
    #define FL_CLOCK CLOCK_MONOTONIC
    #endif
    #define FL_SECOND INT64_C(1000000000)
    #define FL_FIRST_SPAN (FL_SECOND / 200)  /* the shortest time over which a rate is measured: 5 ms */
    #define FL_JUMP (FL_SECOND / 1000)
    #define FL_POLLS 64              /* of a setter that is running: 2 us, several times what it needs */

    typedef struct {
        uint64_t counter, rate, span;  /* rate: ns per tick * 2^32; span: ticks until the next anchor */
        int64_t ns;
    } fl_anchor;

    static struct {
        fl_anchor anchors[2];
        uint64_t generation;           /* its last bit: which anchor is in force */
        uint64_t setting, attempt;     /* a thread is at work on the next one; from which generation on */
        uint64_t origin;               /* the counter and the time from which the rate is measured */
        int64_t origin_ns;
        uint64_t first_rate;           /* what the measurement before gave, while none is believed */
        int64_t wall_due, wall_offset;
        int trusted;
    } fl_time;

    typedef struct {
        int64_t ns, latest;  /* of a manual clock: its time, and how far the limiters on it can follow */
        uint32_t manual;
    } fl_clock;
    static __attribute__((unused)) fl_clock fl_system_clock;

    static inline int64_t fl_gettime(clockid_t id) {
        struct timespec t;
        clock_gettime(id, &t);
        return (int64_t)t.tv_sec * FL_SECOND + t.tv_nsec;
    }

    static inline uint64_t fl_counter(void) {
    #if defined(__x86_64__)
        return __rdtsc();
    #elif defined(__aarch64__)
        uint64_t ticks;
        __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
        return ticks;
    #else
        return 0;
    #endif
    }

    static inline int fl_counter_trusted(void) {
    #if defined(__x86_64__)
        unsigned a, b, c, d;
        char source[32] = "";
        int file;
        ssize_t size;
        if (!__get_cpuid(0x80000007u, &a, &b, &c, &d) || !(d & 1u << 8)) return 0;
        file = open("/sys/devices/system/clocksource/clocksource0/current_clocksource", O_RDONLY | O_CLOEXEC);
        if (file < 0) return 0;
        size = read(file, source, sizeof source - 1);
        close(file);
        return size > 0 && (strstr(source, "tsc") || strstr(source, "kvm-clock"));
    #elif defined(__aarch64__)
        return 1;
    #else
        return 0;
    #endif
    }

    #if defined(FL_CLOCK_SOURCES)  /* a test puts its own in the place of the two above */
    #include FL_CLOCK_SOURCES
    #endif

    static inline void fl_pause(void) {
    #if defined(__x86_64__)
        __builtin_ia32_pause();
    #elif defined(__aarch64__)
        __asm__ volatile("yield");
    #endif
    }

    /* Of three attempts the one least disturbed: whatever comes in between makes the offset wrong. */
    static inline void fl_read_wall(int64_t now) {
        int64_t narrowest = INT64_MAX, offset = 0;
        for (int i = 0; i < 3; i++) {
            int64_t before = fl_gettime(FL_CLOCK);
            int64_t wall = fl_gettime(CLOCK_REALTIME);
            int64_t width = fl_gettime(FL_CLOCK) - before;
            if (width < narrowest) { narrowest = width; offset = wall - (before + width / 2); }
        }
        __atomic_store_n(&fl_time.wall_offset, offset, __ATOMIC_RELAXED);
        __atomic_store_n(&fl_time.wall_due, now + FL_SECOND, __ATOMIC_RELAXED);
    }

    static inline int64_t fl_with_wall(int64_t now) {
        if (now >= __atomic_load_n(&fl_time.wall_due, __ATOMIC_RELAXED)) fl_read_wall(now);
        return now;
    }

    /* Counter and system clock at one instant: of three attempts the one least disturbed. */
    static inline uint64_t fl_sample(int64_t *now) {
        uint64_t narrowest = UINT64_MAX, middle = 0;
        *now = 0;
        for (int i = 0; i < 3; i++) {
            uint64_t before = fl_counter();
            int64_t ns = fl_gettime(FL_CLOCK);
            uint64_t width = fl_counter() - before;
            if (i == 0 || width < narrowest) { narrowest = width; middle = before + width / 2; *now = ns; }
        }
        return middle;
    }

    static inline uint64_t fl_saturated(unsigned __int128 value, uint64_t most) {
        return value > most ? most : (uint64_t)value;
    }

    static inline int64_t fl_scale(uint64_t ticks, uint64_t rate) {
        return (int64_t)fl_saturated((unsigned __int128)ticks * rate >> 32, INT64_MAX / 4);
    }

    /* The latest that an anchor which has run out can have told anybody. A counter from before the anchor has
       fallen back: how far it had come then, nobody knows, and the system's clock has to do. */
    static inline int64_t fl_told(const fl_anchor *anchor, uint64_t counter) {
        return counter < anchor->counter ? anchor->ns : anchor->ns + fl_scale(anchor->span, anchor->rate);
    }

    static inline int fl_jumped(const fl_anchor *old, uint64_t counter, int64_t actual) {
        int64_t elapsed = actual - old->ns, error = elapsed - fl_scale(counter - old->counter, old->rate);
        int64_t allowance = FL_JUMP + (elapsed > 0 ? elapsed : 0) / 1000;
        return counter < old->counter || counter <= fl_time.origin
               || (old->rate && (error > allowance || error < -allowance));
    }

    static inline int fl_alike(uint64_t a, uint64_t b) { return (a > b ? a - b : b - a) < a / 1000; }

    /* Only if nobody was told a time of the system's clock since the sample. */
    static inline int fl_publish_anchor(const fl_anchor *next, uint64_t generation) {
        fl_anchor *anchor = &fl_time.anchors[(generation + 1) & 1];
        __atomic_store_n(&anchor->counter, next->counter, __ATOMIC_RELAXED);
        __atomic_store_n(&anchor->rate, next->rate, __ATOMIC_RELAXED);
        __atomic_store_n(&anchor->span, next->span, __ATOMIC_RELAXED);
        __atomic_store_n(&anchor->ns, next->ns, __ATOMIC_RELAXED);
        return __sync_bool_compare_and_swap(&fl_time.generation, generation, generation + 1);
    }

    /* Time that is `ahead` of the system's clock goes slower, by half at most. */
    static inline uint64_t fl_slowed(uint64_t rate, uint64_t span, int64_t ahead) {
        int64_t span_ns = fl_scale(span, rate), most = ahead < span_ns / 2 ? ahead : span_ns / 2;
        return most > 0 ? rate - (uint64_t)((unsigned __int128)rate * most / span_ns) : rate;
    }

    static inline void fl_measure_from(uint64_t counter, int64_t ns, uint64_t first_rate) {
        fl_time.origin = counter;
        fl_time.origin_ns = ns;
        fl_time.first_rate = first_rate;
    }

    /* By the one thread that holds `setting`, when the anchor in force has run out. The time of its sample is
       always a right answer: who sets the next anchor samples later. */
    static inline int64_t fl_set_anchor(uint64_t generation) {
        const fl_anchor *old = &fl_time.anchors[generation & 1];
        fl_anchor next = {0, 0, 0, 0};
        int64_t actual, elapsed;
        uint64_t ticks, measured;
        __atomic_store_n(&fl_time.attempt, generation, __ATOMIC_RELAXED);
        next.counter = fl_sample(&actual);
        ticks = next.counter - old->counter;
        if (ticks < old->span) return old->ns + fl_scale(ticks, old->rate);  /* it fell back, and in again */
        next.ns = fl_told(old, next.counter);
        if (actual > next.ns) next.ns = actual;
        if (fl_jumped(old, next.counter, actual)) {
            if (fl_publish_anchor(&next, generation)) {
                fl_measure_from(next.counter, actual, 0);
                fl_read_wall(next.ns);
            }
            return next.ns;
        }
        ticks = next.counter - fl_time.origin;
        elapsed = actual - fl_time.origin_ns;
        if (elapsed < FL_FIRST_SPAN) return fl_with_wall(next.ns);
        measured = fl_saturated(((unsigned __int128)elapsed << 32) / ticks, UINT64_MAX);
        if (!old->rate && !fl_alike(measured, fl_time.first_rate)) {
            fl_measure_from(next.counter, actual, measured);
            return fl_with_wall(next.ns);
        }
        next.span = elapsed < FL_SECOND ? ticks : (uint64_t)((unsigned __int128)ticks * FL_SECOND / elapsed);
        next.rate = fl_slowed(measured, next.span, next.ns - actual);
        if (fl_publish_anchor(&next, generation)) {
            if (elapsed >= FL_SECOND) fl_measure_from(next.counter, actual, 0);
            fl_read_wall(next.ns);
        }
        return next.ns;
    }

    /* By the anchor, if it is in force at this counter. */
    static inline int fl_by_anchor(uint64_t generation, fl_anchor *anchor, uint64_t *counter, int64_t *now) {
        const fl_anchor *shared = &fl_time.anchors[generation & 1];
        anchor->ns = __atomic_load_n(&shared->ns, __ATOMIC_ACQUIRE);
        anchor->span = __atomic_load_n(&shared->span, __ATOMIC_ACQUIRE);
        anchor->rate = __atomic_load_n(&shared->rate, __ATOMIC_ACQUIRE);
        anchor->counter = __atomic_load_n(&shared->counter, __ATOMIC_ACQUIRE);
        *counter = fl_counter();
        uint64_t ticks = *counter - anchor->counter;
        *now = anchor->ns + fl_scale(ticks, anchor->rate);
        return ticks < anchor->span && generation == __atomic_load_n(&fl_time.generation, __ATOMIC_RELAXED);
    }

    /* The system's clock, beside a setter that does not come to its end; False if it just did. */
    static inline int fl_by_system(
        uint64_t generation, const fl_anchor *anchor, uint64_t counter, int64_t *now
    ) {
        int64_t told = fl_told(anchor, counter);
        *now = fl_gettime(FL_CLOCK);
        if (told > *now) *now = told;
        return __sync_bool_compare_and_swap(&fl_time.generation, generation, generation + 2);
    }

    static __attribute__((noinline, unused)) int64_t fl_now_slow(void) {
        fl_anchor anchor;
        uint64_t counter;
        int64_t now;
        if (!fl_time.trusted) return fl_with_wall(fl_gettime(FL_CLOCK));
        for (int polls = 0;;) {
            uint64_t generation = __atomic_load_n(&fl_time.generation, __ATOMIC_ACQUIRE);
            if (fl_by_anchor(generation, &anchor, &counter, &now)) return now;
            if (!__atomic_load_n(&fl_time.setting, __ATOMIC_RELAXED)
                && !__atomic_exchange_n(&fl_time.setting, 1, __ATOMIC_ACQUIRE)) {
                generation = __atomic_load_n(&fl_time.generation, __ATOMIC_ACQUIRE);
                if (!fl_by_anchor(generation, &anchor, &counter, &now)) now = fl_set_anchor(generation);
                __atomic_store_n(&fl_time.setting, 0, __ATOMIC_RELEASE);
                return now;
            }
            if (generation == __atomic_load_n(&fl_time.attempt, __ATOMIC_RELAXED) && polls++ < FL_POLLS)
                fl_pause();
            else if (fl_by_system(generation, &anchor, counter, &now))
                return fl_with_wall(now);
        }
    }

    static inline int64_t fl_now(void) {
        uint64_t generation = __atomic_load_n(&fl_time.generation, __ATOMIC_ACQUIRE);
        const fl_anchor *anchor = &fl_time.anchors[generation & 1];
        int64_t ns = __atomic_load_n(&anchor->ns, __ATOMIC_ACQUIRE);
        uint64_t span = __atomic_load_n(&anchor->span, __ATOMIC_ACQUIRE);
        uint64_t rate = __atomic_load_n(&anchor->rate, __ATOMIC_ACQUIRE);
        uint64_t ticks = fl_counter() - __atomic_load_n(&anchor->counter, __ATOMIC_ACQUIRE);
        if (__builtin_expect(
                ticks < span && generation == __atomic_load_n(&fl_time.generation, __ATOMIC_RELAXED), 1))
            return ns + (int64_t)(ticks * rate >> 32);
        return fl_now_slow();
    }

    static inline void fl_after_fork(void) { fl_time.setting = 0; }

    static inline void fl_start_clock(int trusted) {
        fl_time.trusted = trusted;
        if (trusted) {
            fl_time.origin = fl_sample(&fl_time.origin_ns);
            fl_time.anchors[0].counter = fl_time.origin;
            fl_time.anchors[0].ns = fl_time.origin_ns;
        }
        fl_read_wall(fl_gettime(FL_CLOCK));
        pthread_atfork(NULL, NULL, fl_after_fork);
    }
    """
    ctypedef struct Clock "fl_clock":
        int64_t ns
        int64_t latest
        uint32_t manual

    Clock system_clock "fl_system_clock"
    int64_t system_now "fl_now"() noexcept
    int64_t system_gettime "fl_gettime"(int clock_id) noexcept
    int64_t system_wall_offset "fl_time.wall_offset"
    bint counter_trusted "fl_counter_trusted"() noexcept
    void start_clock "fl_start_clock"(bint trusted) noexcept


cdef inline int64_t clock_now(Clock *clock) noexcept nogil:
    """Nanoseconds since boot, or a manual clock's."""
    return load_relaxed_i64(&clock.ns) if clock.manual else system_now()


cdef inline int64_t clock_wall_offset(Clock *clock) noexcept nogil:
    """What to add for wall time since 1970; a manual clock is wall time already."""
    return 0 if clock.manual else load_relaxed_i64(&system_wall_offset)
