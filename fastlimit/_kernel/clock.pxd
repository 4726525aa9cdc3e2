"""The time of a decision: nanoseconds since boot, suspended time included, by the cycle counter if trusted.

`clock_gettime` costs more than the rest of a decision. So the counter is read instead and scaled from an
anchor (counter, time, rate), which is set anew against the system's clock each second, sooner while the rate
is young. There are two anchors, the current one and the next; `generation` says which, and is published when
the next one is whole. A reader that meets a change takes the slow path; nobody waits for the thread that sets
one, and a fork in between harms nobody.

    never back      a new anchor begins no earlier than the old one could say; time that ran ahead is slowed
                    until it fits
    after a jump    (suspend, migration) forward at once, and the rate is measured from scratch
    trusted         invariant (CPUID 8000_0007h, EDX 8) and the kernel's own clock source, or arm64's timer;
                    otherwise every reading is a `clock_gettime`

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

    typedef struct {
        uint64_t counter, rate, span;  /* rate: ns per tick * 2^32; span: ticks until the next anchor */
        int64_t ns;
    } fl_anchor;

    static struct {
        fl_anchor anchors[2];
        uint64_t generation, setting;  /* setting: a thread is at work on the next anchor */
        uint64_t origin;               /* the counter and the time from which the rate is measured */
        int64_t origin_ns, wall_due, wall_offset;
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

    static inline void fl_read_wall(int64_t now) {
        int64_t offset = fl_gettime(CLOCK_REALTIME) - fl_gettime(FL_CLOCK);
        __atomic_store_n(&fl_time.wall_offset, offset, __ATOMIC_RELAXED);
        __atomic_store_n(&fl_time.wall_due, now + FL_SECOND, __ATOMIC_RELAXED);
    }

    /* Counter and system clock at one instant: of three attempts the one least disturbed. */
    static inline uint64_t fl_sample(int64_t *now) {
        uint64_t narrowest = UINT64_MAX, middle = 0;
        *now = 0;
        for (int i = 0; i < 3; i++) {
            uint64_t before = fl_counter();
            int64_t ns = fl_gettime(FL_CLOCK);
            uint64_t width = fl_counter() - before;
            if (width < narrowest) { narrowest = width; middle = before + width / 2; *now = ns; }
        }
        return middle;
    }

    static inline int64_t fl_scale(uint64_t ticks, uint64_t rate) {
        return (int64_t)((unsigned __int128)ticks * rate >> 32);
    }

    static inline void fl_publish_anchor(const fl_anchor *next) {
        uint64_t generation = fl_time.generation + 1;
        fl_anchor *anchor = &fl_time.anchors[generation & 1];
        __atomic_store_n(&anchor->counter, next->counter, __ATOMIC_RELAXED);
        __atomic_store_n(&anchor->rate, next->rate, __ATOMIC_RELAXED);
        __atomic_store_n(&anchor->span, next->span, __ATOMIC_RELAXED);
        __atomic_store_n(&anchor->ns, next->ns, __ATOMIC_RELAXED);
        __atomic_store_n(&fl_time.generation, generation, __ATOMIC_RELEASE);
    }

    /* By the one thread that holds `setting`. Readers use an anchor for at most two spans: `floor` is the
       latest time that any of them can have been told. */
    static inline int64_t fl_set_anchor(void) {
        const fl_anchor *old = &fl_time.anchors[fl_time.generation & 1];
        fl_anchor next;
        int64_t actual, elapsed, floor = old->ns;
        uint64_t ticks, told;
        next.counter = fl_sample(&actual);
        ticks = next.counter - old->counter;
        int64_t error = actual - old->ns - fl_scale(ticks, old->rate);
        int64_t allowance = FL_JUMP + (actual - old->ns) / 1000;
        int jumped = next.counter < old->counter || next.counter <= fl_time.origin
                     || (old->rate && (error > allowance || error < -allowance));
        if (next.counter >= old->counter) {
            told = ticks < 2 * old->span ? ticks : 2 * old->span;
            floor += fl_scale(told, old->rate);
        }
        next.ns = actual > floor ? actual : floor;
        next.rate = next.span = 0;
        if (jumped) { fl_time.origin = next.counter; fl_time.origin_ns = actual; }
        ticks = next.counter - fl_time.origin;
        elapsed = actual - fl_time.origin_ns;
        if (elapsed >= FL_FIRST_SPAN) {
            next.rate = (uint64_t)(((unsigned __int128)elapsed << 32) / ticks);
            next.span =
                elapsed < FL_SECOND ? ticks : (uint64_t)((unsigned __int128)ticks * FL_SECOND / elapsed);
            if (next.ns > actual) {
                int64_t span_ns = fl_scale(next.span, next.rate), ahead = next.ns - actual;
                next.rate -= (uint64_t)(
                    (unsigned __int128)next.rate * (ahead < span_ns / 2 ? ahead : span_ns / 2) / span_ns);
            }
            if (elapsed >= FL_SECOND) { fl_time.origin = next.counter; fl_time.origin_ns = actual; }
        } else if (!jumped) {
            return next.ns;
        }
        fl_publish_anchor(&next);
        fl_read_wall(next.ns);
        return next.ns;
    }

    static __attribute__((noinline, unused)) int64_t fl_now_slow(void) {
        int64_t now;
        if (fl_time.trusted) {
            if (!__atomic_exchange_n(&fl_time.setting, 1, __ATOMIC_ACQUIRE)) {
                now = fl_set_anchor();
                __atomic_store_n(&fl_time.setting, 0, __ATOMIC_RELEASE);
                return now;
            }
            uint64_t generation = __atomic_load_n(&fl_time.generation, __ATOMIC_ACQUIRE);
            const fl_anchor *anchor = &fl_time.anchors[generation & 1];
            int64_t ns = __atomic_load_n(&anchor->ns, __ATOMIC_ACQUIRE);
            uint64_t span = __atomic_load_n(&anchor->span, __ATOMIC_ACQUIRE);
            uint64_t rate = __atomic_load_n(&anchor->rate, __ATOMIC_ACQUIRE);
            uint64_t ticks = fl_counter() - __atomic_load_n(&anchor->counter, __ATOMIC_ACQUIRE);
            if (ticks < 2 * span && generation == __atomic_load_n(&fl_time.generation, __ATOMIC_RELAXED))
                return ns + fl_scale(ticks, rate);
            now = fl_gettime(FL_CLOCK);
            return now > ns ? now : ns;
        }
        now = fl_gettime(FL_CLOCK);
        if (now >= __atomic_load_n(&fl_time.wall_due, __ATOMIC_RELAXED)) fl_read_wall(now);
        return now;
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
