/* A stage on which callers of the kernel take turns: at each atomic access to the memory that is watched,
   the running one goes on, makes way for another (a preemption), or never comes back (a death). A test
   replays the same calls under every series of choices, or under choices drawn from a seed.

   The callers are coroutines of one thread, so what is played is sequentially consistent. */

#include <sched.h>
#include <string.h>
#include <ucontext.h>

enum { PROBE_CAST = 4, PROBE_STACK = 1 << 16, PROBE_STEPS = 1 << 16, PROBE_WATCHED = 12 };

typedef void (*probe_act)(void *);
typedef struct { const char *from, *to; } probe_range;

static struct {
    ucontext_t director, actors[PROBE_CAST];
    _Alignas(16) char stacks[PROBE_CAST][PROBE_STACK];
    void *parts[PROBE_CAST];
    probe_act act;
    int on_stage[PROBE_CAST], cast, current, preemptions, deaths;
    probe_range watched[PROBE_WATCHED];
    int ranges;                       /* of what is watched; none: everything */
    const unsigned char *choices;
    unsigned long long random;        /* draws the choices if `one_in` is not 0 */
    unsigned one_in;                  /* how rare a preemption or a death is then */
    long given, points, steps;        /* choices made beforehand, choices met, atomic accesses met */
    unsigned char options[PROBE_STEPS];
    const void *hook, *died_at;       /* where in the code the current actor stands, and where one died */
    unsigned long long died;          /* its ticket */
} probe_stage;

static unsigned long long probe_draw(unsigned long long *random) {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return *random * 0x2545F4914F6CDD1Dull >> 33;
}

/* The choice made beforehand for this point, as far as there are options, else the first; or a drawn one. */
static int probe_choose(int options, int may_go_on) {
    long point;
    if (options == 1) return 0;
    point = probe_stage.points++;
    probe_stage.options[point] = (unsigned char)options;
    if (!probe_stage.one_in) return point < probe_stage.given ? probe_stage.choices[point] % options : 0;
    if (!may_go_on) return (int)(probe_draw(&probe_stage.random) % options);
    if (probe_draw(&probe_stage.random) % probe_stage.one_in) return 0;
    return 1 + (int)(probe_draw(&probe_stage.random) % (options - 1));
}

/* The options at each point, in this order: the current actor goes on, makes way for each other one, dies.
   Returns whether anybody plays on. */
static int probe_direct(void) {
    int others[PROBE_CAST], waiting = 0, choice, ways;
    int playing = probe_stage.current >= 0 && probe_stage.on_stage[probe_stage.current];
    for (int i = 0; i < probe_stage.cast; i++)
        if (probe_stage.on_stage[i] && i != probe_stage.current) others[waiting++] = i;
    if (!playing) {
        if (!waiting) return 0;
        probe_stage.current = others[probe_choose(waiting, 0)];
        return 1;
    }
    ways = probe_stage.preemptions ? waiting : 0;
    choice = probe_choose(1 + ways + (probe_stage.deaths > 0), 1);
    if (choice > ways) {
        probe_stage.deaths--;
        probe_stage.on_stage[probe_stage.current] = 0;
        probe_stage.died_at = probe_stage.hook;
        probe_stage.died = probe_ticket();
        return probe_direct();
    }
    if (choice) {
        probe_stage.preemptions--;
        probe_stage.current = others[choice - 1];
    }
    return 1;
}

/* Slots that a call looks at: each look begins with a load of the second half of a word. To read a slot once
   more before the next one is not another look. */
static struct {
    const char *home, *from, *to;     /* the table's slots, and one key's first one */
    const char *last;
    long looks, reach, strays;        /* reach: slots from home on; strays: looks in front of it */
} probe_looks;

static void probe_count_look(const char *at) {
    enum { SLOT = 32, SECOND_HALF = 8 };
    long reach = (at - probe_looks.home) / SLOT + 1;
    if (at < probe_looks.from || at >= probe_looks.to || (at - probe_looks.from) % SLOT != SECOND_HALF) return;
    if (at == probe_looks.last) return;
    probe_looks.last = at;
    probe_looks.looks++;
    probe_looks.strays += at < probe_looks.home;
    if (reach > probe_looks.reach) probe_looks.reach = reach;
}

static int probe_is_watched(const char *at) {
    for (int i = 0; i < probe_stage.ranges; i++)
        if (at >= probe_stage.watched[i].from && at < probe_stage.watched[i].to) return 1;
    return probe_stage.ranges == 0;
}

static __attribute__((noinline)) void probe_pause(const volatile void *cell) {
    int actor = probe_stage.current;
    if (probe_self.mode == PROBE_COUNT) {
        probe_count_look((const char *)cell);
        return;
    }
    if (probe_self.mode != PROBE_STAGE) {
        if (!(probe_draw(&probe_self.random) % probe_self.one_in)) sched_yield();
        return;
    }
    if (!probe_is_watched((const char *)cell)) return;
    probe_stage.hook = __builtin_return_address(0);
    if (++probe_stage.steps < PROBE_STEPS && probe_direct() && probe_stage.current == actor) return;
    swapcontext(&probe_stage.actors[actor], &probe_stage.director);
}

static void probe_play_part(void) {
    int actor = probe_stage.current;
    probe_stage.act(probe_stage.parts[actor]);
    probe_stage.on_stage[actor] = 0;
}

static void probe_cast(int i, void *part) {
    ucontext_t *actor = &probe_stage.actors[i];
    probe_stage.parts[i] = part;
    probe_stage.on_stage[i] = 1;
    getcontext(actor);
    actor->uc_stack.ss_sp = probe_stage.stacks[i];
    actor->uc_stack.ss_size = PROBE_STACK;
    actor->uc_link = &probe_stage.director;
    makecontext(actor, probe_play_part, 0);
}

/* Returns whether the play came to its end in a bounded number of steps. `choices`, `preemptions` and so on
   are set beforehand. */
static int probe_play(void **parts, int cast, probe_act act) {
    int going;
    probe_stage.act = act;
    probe_stage.cast = cast;
    probe_stage.current = -1;
    probe_stage.points = probe_stage.steps = 0;
    probe_stage.died = 0;
    for (int i = 0; i < cast; i++) probe_cast(i, parts[i]);
    probe_self.mode = PROBE_STAGE;
    going = probe_direct();
    while (going && probe_stage.steps < PROBE_STEPS) {
        swapcontext(&probe_stage.director, &probe_stage.actors[probe_stage.current]);
        going = probe_stage.on_stage[probe_stage.current] || probe_direct();
    }
    probe_self.mode = PROBE_RUN;
    return !going;
}
