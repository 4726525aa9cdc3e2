/* Compiled in before everything else (-include): each atomic access of the kernel stops here first, so
   that a test can let another caller run in between, or none ever again, can count the swaps that were
   lost to one, and the slots that a call looks at. A store stops after itself, too: what it published is
   seen before its caller's next step, even if that is a plain one. It includes nothing, since Python.h must
   come first. */

#define FL_CLOCK_SOURCES "script.h"

enum { PROBE_RUN, PROBE_STAGE, PROBE_JITTER, PROBE_COUNT };

typedef struct {
    int mode;
    unsigned long swaps, lost, raced;  /* raced: lost swaps to or from a claim */
    unsigned long long random;
    unsigned one_in;                   /* of jitter: how rare it is */
} probe_caller;

static __thread probe_caller probe_self;
static void probe_pause(const volatile void *cell);

static inline void probe_step(const volatile void *cell) {
    if (__builtin_expect(probe_self.mode != PROBE_RUN, 0)) probe_pause(cell);
}
static inline int probe_note_swap(int swapped, int of_claim) {
    probe_self.swaps++;
    probe_self.lost += !swapped;
    probe_self.raced += !swapped && of_claim;
    return swapped;
}
#define probe_tentative(cell, value) (sizeof(*(cell)) == 16 && (unsigned long long)(value) >> 63)

#define __atomic_load_n(cell, order) (probe_step(cell), __atomic_load_n((cell), (order)))
#define __atomic_store_n(cell, value, order) \
    (probe_step(cell), __atomic_store_n((cell), (value), (order)), probe_step(cell))
#define __atomic_exchange_n(cell, value, order) \
    (probe_step(cell), __atomic_exchange_n((cell), (value), (order)))
#define __sync_bool_compare_and_swap(cell, old_value, new_value) \
    (probe_step(cell), probe_note_swap(__sync_bool_compare_and_swap((cell), (old_value), (new_value)), \
                                       probe_tentative(cell, old_value) || probe_tentative(cell, new_value)))
