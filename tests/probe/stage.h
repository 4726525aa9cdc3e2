/* A stage on which callers of the kernel take turns: at each atomic access to the part of memory that is
   watched, the running one goes on, makes way for another (a preemption), or never comes back (a death).
   A test replays the same calls under every series of choices.

   The callers are coroutines of one thread, so what is played is sequentially consistent. */

#include <sched.h>
#include <string.h>
#include <ucontext.h>

enum { PROBE_CAST = 4, PROBE_STACK = 1 << 16, PROBE_STEPS = 1 << 16 };

typedef void (*probe_act)(void *);

static struct {
    ucontext_t director, actors[PROBE_CAST];
    _Alignas(16) char stacks[PROBE_CAST][PROBE_STACK];
    void *parts[PROBE_CAST];
    probe_act act;
    int on_stage[PROBE_CAST], cast, current, preemptions, deaths;
    const char *watched_from, *watched_to, *watched_version;
    const unsigned char *choices;
    long given, points;               /* choices made beforehand, choices met */
    unsigned char options[PROBE_STEPS];
} probe_stage;

/* Slots that a call looks at: each look begins with a load of the second half of a word. */
static struct {
    const char *home, *from, *to;     /* the table's slots, and one key's first one */
    long looks, reach, strays;        /* reach: slots from home on; strays: looks in front of it */
} probe_looks;

static void probe_count_look(const char *at) {
    enum { SLOT = 32, SECOND_HALF = 8 };
    long reach = (at - probe_looks.home) / SLOT + 1;
    if (at < probe_looks.from || at >= probe_looks.to || (at - probe_looks.from) % SLOT != SECOND_HALF) return;
    probe_looks.looks++;
    probe_looks.strays += at < probe_looks.home;
    if (reach > probe_looks.reach) probe_looks.reach = reach;
}

static void probe_pause(const volatile void *cell) {
    const char *at = (const char *)cell;
    if (probe_self.mode == PROBE_COUNT) {
        probe_count_look(at);
        return;
    }
    if (probe_self.mode == PROBE_STAGE) {
        if ((at >= probe_stage.watched_from && at < probe_stage.watched_to) || at == probe_stage.watched_version)
            swapcontext(&probe_stage.actors[probe_stage.current], &probe_stage.director);
        return;
    }
    probe_self.random ^= probe_self.random << 13;
    probe_self.random ^= probe_self.random >> 7;
    probe_self.random ^= probe_self.random << 17;
    if (!(probe_self.random & 15)) sched_yield();
}

static void probe_play_part(void) {
    probe_stage.act(probe_stage.parts[probe_stage.current]);
    probe_stage.on_stage[probe_stage.current] = 0;
}

/* The choice made beforehand for this point, as far as there are options, else the first. */
static int probe_choose(int options) {
    long point;
    if (options == 1) return 0;
    point = probe_stage.points++;
    probe_stage.options[point] = (unsigned char)options;
    return point < probe_stage.given ? probe_stage.choices[point] % options : 0;
}

/* The options at each point, in this order: the current actor goes on, makes way for each other one, dies. */
static int probe_direct(void) {
    int others[PROBE_CAST], waiting = 0, choice, ways;
    int playing = probe_stage.current >= 0 && probe_stage.on_stage[probe_stage.current];
    for (int i = 0; i < probe_stage.cast; i++)
        if (probe_stage.on_stage[i] && i != probe_stage.current) others[waiting++] = i;
    if (!playing) {
        if (!waiting) return 0;
        probe_stage.current = others[probe_choose(waiting)];
        return 1;
    }
    ways = probe_stage.preemptions ? waiting : 0;
    choice = probe_choose(1 + ways + (probe_stage.deaths > 0));
    if (choice > ways) {
        probe_stage.deaths--;
        probe_stage.on_stage[probe_stage.current] = 0;
        return probe_direct();
    }
    if (choice) {
        probe_stage.preemptions--;
        probe_stage.current = others[choice - 1];
    }
    return 1;
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

/* Returns whether the play came to its end in a bounded number of steps. */
static int probe_play(void **parts, int cast, probe_act act, int preemptions, int deaths,
                      const unsigned char *choices, long given) {
    int steps = 0;
    probe_stage.act = act;
    probe_stage.cast = cast;
    probe_stage.current = -1;
    probe_stage.preemptions = preemptions;
    probe_stage.deaths = deaths;
    probe_stage.choices = choices;
    probe_stage.given = given;
    probe_stage.points = 0;
    for (int i = 0; i < cast; i++) probe_cast(i, parts[i]);
    probe_self.mode = PROBE_STAGE;
    while (steps < PROBE_STEPS && probe_direct()) {
        swapcontext(&probe_stage.director, &probe_stage.actors[probe_stage.current]);
        steps++;
    }
    probe_self.mode = PROBE_RUN;
    return steps < PROBE_STEPS;
}
