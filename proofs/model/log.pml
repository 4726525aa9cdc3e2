/* The sliding log: a ring of entries beside one slot, written as intents that the swap of the word grants.

   It says what fastlimit/_kernel/ring.pxd and algorithms/sliding_log.pxd say. An entry is {gen, seq, time}; body of
   the live word is the log's latest event, count the sequence of its next unit. A refund of all units leaves
   the word as a partial one does here; the engine moves the count on as well, as a reset does.

   A configuration defines PROCESSES and what else it wants to differ, then includes this file. */

#ifndef LIMIT
#define LIMIT 2
#endif
#ifndef R
#define R (4 * LIMIT)       /* entries of the ring */
#endif
#define DEEPEST (2 * LIMIT)  /* units that debits may bring into the window */
#ifndef W
#define W 2
#endif
#ifndef TMAX
#define TMAX 4
#endif
#ifndef BASE
#define BASE (4 * LIMIT)
#endif
#ifndef NOSTUCK
#define NOSTUCK 0            /* 1: let a caller pass that an intent blocks for ever */
#endif
#ifndef BUMP
#define BUMP 1               /* ticks that a refund takes */
#endif
#define CHARGE 0
#define DEBIT 1
#define REFUND 2
#define RESET 3
#define UNUSED 0
#define TENTATIVE 1
#define LIVE 2

byte now;
byte state, owner, body, count;      /* the word; owner: ext of a tentative one; body: its gen, or newest */
byte ext, gen;                       /* identity */
byte egen[R], eseq[R], etime[R];     /* ring */
byte units[3 * (TMAX+2)];            /* ghost: units of key at tick */

#define UNITS(k, tick) units[(k) * (TMAX+2) + (tick)]

inline in_window(key, t) {           /* x = units in (t-W, t..] */
  x = 0; j = TMAX + 1;
  do
  :: j + W > t && j > 0 -> x = x + UNITS(key, j); j--
  :: else -> break
  od; j = 0
}
inline held(tick) {   /* a unit of key 1 that was granted before */
  egen[count % R] = 1; eseq[count % R] = count; etime[count % R] = tick; UNITS(1, tick)++; count++; body = tick
}
inline take_back(key, k) {
  x = k; j = TMAX + 1;
  do
  :: x == 0 || j == 0 -> break
  :: x > 0 && j > 0 && UNITS(key, j) > 0 -> UNITS(key, j)--; x--
  :: x > 0 && j > 0 && UNITS(key, j) == 0 -> j--
  od; assert(x == 0); j = 0
}
inline forget(key) { j = 0; do :: j < TMAX+2 -> UNITS(key, j) = 0; j++ :: else -> break od; j = 0 }

proctype Caller(byte key, op, cost) {
  byte t, tg, s, b, c, o, e, g, eg, es, et, q, d, j, x;
start:
  atomic { t = now; e = 0; g = 0; eg = 0; es = 0; et = 0; q = 0; d = 0; tg = 0 };
  atomic { s = state; o = owner; b = body; c = count };
  if
  :: s == UNUSED -> goto claim
  :: s == TENTATIVE -> if :: o == key -> g = b; goto confirm :: else -> goto claim fi
  :: s == LIVE ->
     atomic { e = ext; g = gen };
     if
     :: e != key && (b == 0 || b + W <= t) -> goto claim
     :: e != key && !(b == 0 || b + W <= t) -> goto done
     :: e == key -> skip
     fi
  fi;
  /* on the live word */
  atomic { d = cost; x = (b == 0 || b + W <= t); if :: t < b -> t = b :: else fi };
  if
  :: op == CHARGE && x -> x = 0
  :: op == CHARGE && !x ->
     q = c + cost - 1 - LIMIT;
     atomic { eg = egen[q % R]; es = eseq[q % R]; et = etime[q % R] };
     if
     :: eg == g && es == q && et + W > t ->
        atomic { if :: count == c -> goto done :: else -> goto start fi }
     :: eg == g && es > q -> atomic { if :: t < et -> t = et :: else fi }
     :: else -> skip
     fi
  :: op == DEBIT ->
     x = 0;
     do
     :: d == 0 -> goto done
     :: else ->
        q = c + d - 1 - DEEPEST;
        atomic { eg = egen[q % R]; es = eseq[q % R]; et = etime[q % R] };
        if
        :: eg == g && es == q && et + W > t -> d--
        :: eg == g && es > q -> atomic { if :: t < et -> t = et :: else fi }; break
        :: else -> break
        fi
     od
  :: op == REFUND ->
     x = 0; d = 0;
     do
     :: d == cost -> break
     :: else ->
        q = c - 1 - d;
        atomic { eg = egen[q % R]; es = eseq[q % R]; et = etime[q % R] };
        if
        :: eg == g && es == q && et + W > t -> d++
        :: else -> break
        fi
     od;
     if :: d == 0 -> goto done :: else fi;
     atomic {
       if
       :: state == s && owner == o && body == b && count == c -> count = c - d; body = b + BUMP; take_back(key, d); goto done
       :: else -> goto start
       fi }
  :: op == RESET ->
     x = 0;
     atomic {
       if
       :: state == s && owner == o && body == b && count == c -> count = c + 2 * R; body = 0; forget(key); goto done
       :: else -> goto start
       fi }
  fi;
  goto intents;
claim:
  if :: op == REFUND || op == RESET -> goto done :: else fi;
  g = gen;
  atomic { if :: s == TENTATIVE && b > g -> g = b :: else fi; g = g + 1 };
  atomic { if
  :: state == s && owner == o && body == b && count == c -> state = TENTATIVE; owner = key; body = g; s = TENTATIVE; o = key; b = g
  :: else -> goto start fi };
confirm:
  do
  :: atomic { e = ext; x = gen };
     if
     :: e == key && x == g -> break
     :: x > g -> goto start
     :: else -> atomic { if :: ext == e && gen == x -> ext = key; gen = g :: else fi }
     fi
  od;
  atomic { t = now; d = cost; x = 0 };
intents:
  atomic { tg = t; q = c };
  do
  :: q == c + d -> break
  :: else ->
     atomic { eg = egen[q % R]; es = eseq[q % R]; et = etime[q % R] };
     if
     :: eg > g || (eg == g && es > q) ->
        atomic { assert(NOSTUCK || !(eg == g && state == s && owner == o && body == b && count == c)); goto start }
     :: eg == g && es == q && et >= t -> atomic { t = et; q++ }
     :: else ->
        atomic { if
        :: egen[q % R] == eg && eseq[q % R] == es && etime[q % R] == et -> egen[q % R] = g; eseq[q % R] = q; etime[q % R] = t; q++
        :: else -> goto start fi }
     fi
  od;
  atomic { if
  :: state == s && owner == o && body == b && count == c ->
     if :: s == TENTATIVE -> forget(key) :: else fi;
     state = LIVE; owner = 0; body = t; count = c + d;
     in_window(key, tg);
     assert(ext == key);
     assert(op == DEBIT || x + d <= LIMIT);
     assert(x + d <= DEEPEST);
     UNITS(key, tg) = UNITS(key, tg) + d
  :: else -> goto start fi };
done:
  t = 0; tg = 0; s = 0; b = 0; c = 0; o = 0; e = 0; g = 0; eg = 0; es = 0; et = 0; q = 0; d = 0; j = 0; x = 0
}
proctype Clock() { do :: now < TMAX -> now++ :: else -> break od }
init { atomic {
  now = 1; count = BASE;
#ifdef LIVE1
  state = LIVE; ext = 1; gen = 1; body = 0;
#endif
#ifdef HELD
  HELD
#endif
  PROCESSES;
  run Clock() } }
