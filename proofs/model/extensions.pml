/* What else writes words: each process is one operation of the engine, or of what comes on top of it.

   In the code: Refund, Reset, Update. Ahead of the code, which has only set the room aside: Synchronizer with
   planes, Lessor. */

/* take() needs no swap; absorb() is one, to the later of two tats. */
proctype Synchronizer(byte rounds; bit absorbing) {
  byte i, s, x, b, c, e, g, r;
  do
  :: rounds == 0 -> break
  :: else ->
     i = 0;
     do
     :: i == SLOTS -> break
     :: else ->
        atomic { s = state[i]; x = named[i]; b = body[i]; c = count[i] };
        r = reported[i];
        if
        :: s == LIVE && c != r ->
#ifdef PLANES
           read_name();
#else
           e = ext[i];
#endif
           atomic { if :: e != NOBODY -> taken[e] = taken[e] + c - r :: else fi };     /* a signed difference */
           if :: e != NOBODY -> reported[i] = c :: else fi
        :: else
        fi;
        if
        :: s == LIVE && absorbing ->
           e = ext[i];
           atomic { if
           :: SAME(i, s, x, b, c) && b < now + 1 && now < TICKS ->
              body[i] = now + 1; assert(owner[i] == e); true_tat[e] = now + 1; absorbing = 0
           :: else fi }
        :: else
        fi;
        i++
     od;
     atomic { rounds--; s = 0; x = 0; b = 0; c = 0; e = 0; g = 0; r = 0; i = 0 }
  od
}

/* find(): i is the live slot of the key with the word (s, x, b, c), or SLOTS. */
inline find(key) {
  i = 0;
  do
  :: i == SLOTS -> break
  :: else ->
     atomic { s = state[i]; x = named[i]; b = body[i]; c = count[i] };
     if :: s == UNUSED -> i = SLOTS; break :: else fi;
     if :: s == LIVE -> e = ext[i]; if :: e == key -> break :: else fi :: else fi;
     i++
  od
}

/* The tat after one unit is given back: not below now, unless it was. */
#define LESS(b) ((b) > 0 -> (b) - 1 : 0)
#define LEAST(a, b) ((a) < (b) -> (a) : (b))
#define MOST(a, b) ((a) > (b) -> (a) : (b))
#define REFUNDED(b, t) MOST(LEAST(b, t), LESS(b))

proctype Refund(byte key) {
  byte t, i, s, x, b, c, e;
start:
  t = now;
  find(key);
  if
  :: i == SLOTS || b <= t -> skip               /* it owes nothing: what is given back would be lost */
  :: else ->
     atomic {
       if
#ifdef REFUND_STORES
       :: true ->
#else
       :: SAME(i, s, x, b, c) ->
          assert(owner[i] == key);
#endif
          body[i] = REFUNDED(b, t); count[i] = c - 1;
          true_tat[key] = REFUNDED(true_tat[key], t); charged[key]--
#ifndef REFUND_STORES
       :: else -> goto start
#endif
       fi
     }
  fi
}

proctype Reset(byte key) {
  byte i, s, x, b, c, e;
start:
  find(key);
  if
  :: i == SLOTS -> skip
  :: else ->
     atomic {
       if
#ifdef RESET_STORES
       :: true ->
#else
       :: SAME(i, s, x, b, c) ->
          assert(owner[i] == key);
#endif
          body[i] = 0; true_tat[key] = 0
#ifndef RESET_STORES
       :: else -> goto start
#endif
       fi
     }
  fi
}

#if VERSIONS > 1
/* change_limit() and sweep(), once per new interval; updates of one limiter wait for each other. */
bit updating;

proctype Update(byte wanted) {
  byte i, s, x, b, c, t, v, old;
  atomic { !updating -> updating = 1 };
  v = (version + 1) % VERSIONS;
#ifdef PUBLISH_FIRST
  version = v;
  intervals[v] = wanted;
#else
  intervals[v] = wanted;
  version = v;
#endif
  i = 0;
  do
  :: i == SLOTS -> break
  :: else ->
     atomic { s = state[i]; x = named[i]; b = body[i]; c = count[i] };
     if
     :: s == UNUSED || (s == LIVE && VERSION(x) == v) -> i++
#ifdef NO_SWEEP_KILL
     :: s == TENTATIVE -> i++
#else
     :: s == TENTATIVE ->
        atomic { if :: SAME(i, s, x, b, c) -> named[i] = NOBODY; body[i] = b + 1; i++ :: else fi }
#endif
     :: s == LIVE && VERSION(x) != v ->
        t = now;
        old = intervals[VERSION(x)];
        atomic { if
        :: SAME(i, s, x, b, c) ->
           assert(worked_with[i] == old);
           worked_with[i] = wanted;
#ifdef SWEEP_FREES
           if
           :: b <= t -> state[i] = TENTATIVE; named[i] = NOBODY; body[i] = gen[i] + 1
           :: else -> named[i] = v; body[i] = CONVERTED(b, t, old, wanted)
           fi;
#else
           named[i] = v; body[i] = CONVERTED(b, t, old, wanted);
#endif
           i++
        :: else fi }
     fi
  od;
  updating = 0
}
#endif

#ifdef LEASES
/* Lease `units` to the key's slot, then take back what is left. `taken` is not part of it. */
proctype Lessor(byte key, units) {
  byte i, s, x, b, c, e;
lease:
  find(key);
  if :: i == SLOTS -> goto out :: else fi;
  lease_end[i] = c + units;
  atomic { if
  :: SAME(i, s, x, b, c) -> named[i] = x | LEASED; lease_left[i] = units
#ifdef FLAG_OUTSIDE
     ; named[i] = x; flag[i] = 1
#endif
  :: else -> goto lease fi };
  e = i;
giving_back:
  atomic { s = state[e]; x = named[e]; b = body[e]; c = count[e] };
#ifdef FLAG_OUTSIDE
  atomic { flag[e] = 0; lease_left[e] = 0 };
#else
  atomic { if
  :: SAME(e, s, x, b, c) -> assert(lease_left[e] == lease_end[e] - c); named[e] = x & ~LEASED; lease_left[e] = 0
  :: else -> goto giving_back fi };
#endif
out: skip
}
#endif
