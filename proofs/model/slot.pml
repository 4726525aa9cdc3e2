/* The slot protocol: look up, charge, claim, confirm, reclaim; a synchronizer that takes and absorbs.

   It says what fastlimit/_kernel/{slot,table,decide}.pxd say, in their words, for the worst case: all keys share
   the tag and the home, so only ext tells keys apart. The bucket is the harshest: one grant per tick
   (interval 1, burst 1). extensions.pml adds the operations that are no charge.

   One atomic access of the code is one step here; a 16-byte load is one step, since the code validates what it
   read in halves. A caller that is never scheduled again is a dead one, so an assertion holds for a death at
   any step; CRASHES lets the audit at rest see the dead. Interleavings are sequentially consistent: memory orders
   are argued in docs/design/kernel.md and not checked here.

   A configuration defines PROCESSES and what else it wants to differ, then includes this file. */

#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef TICKS
#define TICKS 2
#endif
#ifndef CLAIM_ROUNDS
#define CLAIM_ROUNDS 2
#endif
#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef SETUP
#define SETUP skip
#endif
#ifndef VERSIONS
#define VERSIONS 1
#endif
#ifndef LAXEST
#define LAXEST 1       /* the shortest interval that any limit in force had */
#endif

#define UNUSED    0
#define TENTATIVE 1
#define LIVE      2
#define NOBODY    0
#define NONE      7
#define KEYS      4     /* 1, 2, 3 */

/* The word: one compare-and-swap. */
byte state[SLOTS];
byte named[SLOTS];      /* ext in a tentative word; of a live one: its version, its lease bit */
byte body[SLOTS];       /* generation of a tentative word, tat of a live one */
byte count[SLOTS];      /* admitted ever, by earlier keys too */
/* The identity: another. */
byte ext[SLOTS], gen[SLOTS];
/* Written by the synchronizer only. */
byte reported[SLOTS];

byte now, crashes;

/* Ghosts, which no caller reads: whose a live word is; what each key was granted and what was reported of it. */
byte owner[SLOTS], true_tat[KEYS], charged[KEYS], taken[KEYS];

#define SAME(i, s, x, b, c) (state[i] == s && named[i] == x && body[i] == b && count[i] == c)

#define CRASH if :: skip :: crashes < CRASHES -> crashes++; goto dead fi

/* Everything in one step, as the swap that grants. With STALE_READINGS a grant may count as of any instant from
   its reading of the clock to its swap. */
inline granted(key, t, interval) {
#ifdef STALE_READINGS
  assert(true_tat[key] <= now);
  true_tat[key] = (true_tat[key] > t -> true_tat[key] : t) + interval;
#else
  assert(true_tat[key] <= t);
  true_tat[key] = t + interval;
#endif
  charged[key]++
}

/* For SETUP: slot i is live and the key's, owing until `tat`. */
inline held(i, key, tat) {
  state[i] = LIVE; body[i] = tat; ext[i] = key; owner[i] = key; true_tat[key] = tat
}

#include "limit.pml"
#ifdef PLANES
#include "planes.pml"
#endif

proctype Caller(byte key; byte calls) {
  byte t, i, rounds;
  byte s, x, b, c, e;                           /* the word as it was read, and the ext after it */
  byte free, free_s, free_x, free_b, free_c;    /* first slot that may be taken, and its word */
  byte claim, claim_gen, claim_c;               /* the tentative word of this key that is to be confirmed */
  byte interval, v, r;
again:
  do
  :: calls == 0 -> break
  :: else ->
start:
     CRASH;
     atomic {
       t = now; i = 0; free = NONE; claim = NONE;
       s = 0; x = 0; b = 0; c = 0; e = 0; v = 0; interval = 1;
       free_s = 0; free_x = 0; free_b = 0; free_c = 0; claim_gen = 0; claim_c = 0
     };

     /* find() and scan(): one pass over the window */
     do
     :: i == SLOTS -> break
     :: i < SLOTS ->
        atomic { s = state[i]; x = named[i]; b = body[i]; c = count[i] };
        if
        :: s == UNUSED ->
           atomic { if
           :: free == NONE || free_s == TENTATIVE -> free = i; free_s = 0; free_x = 0; free_b = 0; free_c = 0
           :: else fi };
           break
        :: s == TENTATIVE ->
           atomic { if
           :: x == key && claim == NONE -> claim = i; claim_gen = b; claim_c = c
           :: x != key && free == NONE -> free = i; free_s = s; free_x = x; free_b = b; free_c = c
           :: else fi }
        :: s == LIVE ->
           e = ext[i];
#ifdef NO_EXT_CHECK
           e = key;
#endif
           if
           :: e == key ->
              evaluate();                       /* goes to done if it refuses */
              CRASH;
              atomic { if
              :: SAME(i, s, x, b, c) ->
                 assert(owner[i] == key);
                 charge_word();
                 goto done
              :: else -> goto start fi }
           :: e != key && IS_FREE(x, b, t) && (free == NONE || free_s == TENTATIVE) ->
#if defined(SYNCHRONIZED) && !defined(RECLAIM_UNSYNCED)
              r = reported[i];
#else
              r = c;
#endif
              atomic { if :: r == c -> free = i; free_s = s; free_x = x; free_b = b; free_c = c :: else fi }
           :: else
           fi
        fi;
        i++
     od;

     /* take(), unless somebody's claim of this very key, perhaps a dead one's, only needs to be confirmed */
     if
     :: claim != NONE -> skip
     :: claim == NONE && (free == NONE || rounds == CLAIM_ROUNDS) -> goto done     /* a full window: policy */
     :: else ->
        CRASH;
        b = gen[free];
        atomic { if :: free_s == TENTATIVE && free_b > b -> b = free_b :: else fi; b = b + 1 };
#ifdef NO_GEN
        b = 1;
#endif
#ifdef ONE_STEP
        atomic { if
        :: SAME(free, free_s, free_x, free_b, free_c) ->
           state[free] = LIVE; named[free] = 0; body[free] = t + 1; count[free] = free_c + 1;
           owner[free] = key; ext[free] = key; granted(key, t, 1);
           goto done
        :: else -> goto start fi };
#endif
        atomic { if
        :: SAME(free, free_s, free_x, free_b, free_c) ->
           state[free] = TENTATIVE; named[free] = key; body[free] = b; rounds++
        :: else -> goto start fi };
        atomic {
          claim = free; claim_gen = b; claim_c = free_c;
          free = 0; free_s = 0; free_x = 0; free_b = 0; free_c = 0; s = 0; x = 0; b = 0; c = 0; e = 0
        }
     fi;
     CRASH;
#ifdef CLOCK_BEFORE_SCAN
     t = now;
#endif

     /* outlives_rivals(), now that the claim is visible */
     atomic { i = 0; b = 0; free = 0; free_s = 0; free_x = 0; free_b = 0; free_c = 0 };
     do
     :: i == SLOTS -> break
     :: i < SLOTS && i == claim -> i++
     :: i < SLOTS && i != claim ->
        atomic { s = state[i]; x = named[i]; b = body[i]; c = count[i] };
        if
        :: s == UNUSED -> break
        :: s == LIVE -> e = ext[i]; if :: e == key -> goto start :: else fi
        :: s == TENTATIVE && x == key && i < claim -> goto start
#ifndef NO_KILL
        :: s == TENTATIVE && x == key && i > claim ->
           CRASH;
           atomic { if
           :: SAME(i, s, x, b, c) -> named[i] = NOBODY; body[i] = b + 1
           :: else -> goto start fi }
#endif
        :: else
        fi;
        i++
     od;

     /* settle_identity() */
     do
     :: atomic { e = ext[claim]; b = gen[claim] };
        if
        :: e == key && b == claim_gen -> break
        :: b > claim_gen -> goto start
        :: else ->
           CRASH;
#ifdef PLAIN_IDENTITY
           atomic { ext[claim] = key; gen[claim] = claim_gen };
           break
#else
           atomic { if :: ext[claim] == e && gen[claim] == b -> ext[claim] = key; gen[claim] = claim_gen :: else fi }
#endif
        fi
     od;
#ifdef PLANES
     settle_plane();
#endif

     /* confirm(): the clock after the scan, then the swap */
     CRASH;
#if !defined(STALE_CLOCK) && !defined(CLOCK_BEFORE_SCAN)
     t = now;
#endif
     atomic { r = 0; e = 0; interval = 1 };
     begin();
     atomic { if
     :: SAME(claim, TENTATIVE, key, claim_gen, claim_c) ->
        i = claim; c = claim_c; b = 0;
        r = 0;
        do
        :: r < SLOTS -> assert(r == claim || state[r] != LIVE || owner[r] != key); r++
        :: else -> break
        od;
        assert(ext[claim] == key);
        state[claim] = LIVE; owner[claim] = key;
        x = 0;
        charge_word()
     :: else -> goto start fi };
done:
     atomic {
       calls--; rounds = 0; t = 0; i = 0; s = 0; x = 0; b = 0; c = 0; e = 0; r = 0; v = 0; interval = 0;
       free = 0; free_s = 0; free_x = 0; free_b = 0; free_c = 0; claim = 0; claim_gen = 0; claim_c = 0
     }
  od;
dead: skip
}

proctype Clock() {
  do :: now < TICKS -> now++ :: else -> break od
}

#include "extensions.pml"

init {
  byte i;
  atomic { SETUP; PROCESSES; run Clock() };
  _nr_pr == 1;
  /* At rest: a last pass of the synchronizer; then nothing is lost, misnamed or stuck. */
  atomic {
    do
    :: i < SLOTS ->
       if
       :: state[i] == LIVE ->
          assert(ext[i] == owner[i]);
#ifdef PLANES
          assert(plane_key[i] == owner[i] && plane_gen[i] == gen[i]);
#endif
          taken[ext[i]] = taken[ext[i]] + count[i] - reported[i]
       :: else
       fi;
       i++
    :: else -> break
    od;
#ifdef SYNCHRONIZED
    assert(taken[1] == charged[1] && taken[2] == charged[2] && taken[3] == charged[3])
#endif
  }
}
