/* Compiled in before everything else (-include): each atomic access of the kernel stops here first, so
   that a test can let another caller run in between, or none ever again, can count the swaps that were
   lost to one, and the slots that a call looks at. It includes nothing, since Python.h must come first. */

#define FL_CLOCK_SOURCES "script.h"

enum { PROBE_RUN, PROBE_STAGE, PROBE_JITTER, PROBE_COUNT };

typedef struct {
    int mode;
    unsigned long swaps, lost;
    unsigned long long random;
} probe_caller;

static __thread probe_caller probe_self;
static void probe_pause(const volatile void *cell);

static inline void probe_step(const volatile void *cell) {
    if (__builtin_expect(probe_self.mode != PROBE_RUN, 0)) probe_pause(cell);
}
static inline int probe_note_swap(int swapped) {
    probe_self.swaps++;
    probe_self.lost += !swapped;
    return swapped;
}

#define __atomic_load_n(cell, order) (probe_step(cell), __atomic_load_n((cell), (order)))
#define __atomic_store_n(cell, value, order) (probe_step(cell), __atomic_store_n((cell), (value), (order)))
#define __atomic_exchange_n(cell, value, order) \
    (probe_step(cell), __atomic_exchange_n((cell), (value), (order)))
#define __sync_bool_compare_and_swap(cell, old_value, new_value) \
    (probe_step(cell), probe_note_swap(__sync_bool_compare_and_swap((cell), (old_value), (new_value))))
