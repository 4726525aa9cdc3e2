/* A cycle counter and system clocks that a test makes up, in the place of the machine's: compiled into the
   clock behind the functions that read those. Each reading takes time, and a caller on stage may lose its turn
   before one. */

static struct {
    int on, careless;
    uint64_t counter, rate;          /* at the start; ticks per ns * 2^32 */
    int64_t boot, wall, reading;     /* at the start; ns that a reading takes */
    int64_t passed;                  /* since then */
    int64_t hiccup;                  /* ns that pass before the reading that brings this to 0 */
    long hiccup_in;
    long voids, dropped;             /* swaps of the generation by readers; those that came too late */
} probe_script;

static inline uint64_t probe_counter_now(void) {
    uint64_t passed = (uint64_t)__atomic_load_n(&probe_script.passed, __ATOMIC_RELAXED);
    return probe_script.counter + (uint64_t)((unsigned __int128)passed * probe_script.rate >> 32);
}

/* Time passes; a whole reading lies between its beginning and its end. */
static inline int64_t probe_source_read(void) {
    int64_t more = probe_script.reading;
    probe_step(&probe_script);
    if (probe_script.hiccup_in && !--probe_script.hiccup_in) more += probe_script.hiccup;
    return __atomic_add_fetch(&probe_script.passed, more, __ATOMIC_SEQ_CST);
}

static inline uint64_t probe_counter(void) {
    if (!probe_script.on) return fl_counter();
    uint64_t passed = (uint64_t)probe_source_read();
    return probe_script.counter + (uint64_t)((unsigned __int128)passed * probe_script.rate >> 32);
}

static inline int64_t probe_gettime(clockid_t id) {
    if (!probe_script.on) return fl_gettime(id);
    int64_t passed = probe_source_read();
    return (id == CLOCK_REALTIME ? probe_script.wall : probe_script.boot) + passed;
}

static inline int probe_swap_generation(uint64_t *cell, uint64_t old_value, uint64_t new_value) {
    int swapped = 1;
    if (probe_script.careless) __atomic_store_n(cell, new_value, __ATOMIC_SEQ_CST);
    else swapped = __sync_bool_compare_and_swap(cell, old_value, new_value);
    if (swapped && new_value == old_value + 2) __atomic_fetch_add(&probe_script.voids, 1, __ATOMIC_RELAXED);
    if (!swapped) __atomic_fetch_add(&probe_script.dropped, 1, __ATOMIC_RELAXED);
    return swapped;
}

#define fl_counter probe_counter
#define fl_gettime probe_gettime
#undef __sync_bool_compare_and_swap
#define __sync_bool_compare_and_swap probe_swap_generation

/* On stage a caller that polls would only keep the turn. */
#undef FL_POLLS
#define FL_POLLS (probe_self.mode == PROBE_STAGE ? 1 : 64)
