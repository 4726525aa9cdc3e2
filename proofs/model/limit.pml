/* What a charge works out from the word that it read; included by slot.pml, whose Caller lends its variables.

   `x` of a live word: the version its body is expressed in, and LEASED. Without VERSIONS and LEASES it is 0, and a
   charge is what slot.pml promises: allowed if the tat is not after now. */

#define LEASED 4
#define VERSION(x) ((x) & 3)

/* Header: parameter sets, and which is in force. Ghost: the interval a live body was worked out with. */
byte version, intervals[VERSIONS], worked_with[SLOTS];

/* Cold record of a lease: the count up to which it reaches. Ghost: how much of it is left. */
byte lease_end[SLOTS], lease_left[SLOTS];
#ifdef FLAG_OUTSIDE
bit flag[SLOTS];
#endif

#define IS_FREE(x, b, t) ((b) <= (t) && !((x) & LEASED))

/* Debt in tokens is kept, rounded up; what owes nothing is 0. */
#define CONVERTED(b, t, old, new) ((b) > (t) -> (t) + (((b) - (t)) * (new) + (old) - 1) / (old) : 0)

inline begin() {
#if VERSIONS > 1
  v = version;
  interval = intervals[v]
#else
  skip
#endif
}

inline evaluate() {
  begin();
  r = b;
#if VERSIONS > 1
  if
  :: VERSION(x) != v -> atomic { r = intervals[VERSION(x)]; r = CONVERTED(b, t, r, interval) }
  :: else
  fi;
#endif
#ifdef LEASES
#ifdef FLAG_OUTSIDE
  e = flag[i];
#else
  e = x & LEASED;
#endif
  if
  :: e -> e = lease_end[i]; if :: c + 1 > e -> goto done :: else fi
  :: else
  fi;
#endif
  if
  :: r > t -> atomic { if :: count[i] == c -> goto done :: else -> goto start fi }
  :: else
  fi
}

/* Within the step that swaps: the word of slot i was (.., x, b, c). */
inline charge_word() {
#if VERSIONS > 1
  assert(intervals[v] == interval);             /* the word names parameters that it was not worked out with */
  worked_with[i] = interval;
#endif
#ifdef LEASES
  if :: e && state[i] == LIVE -> assert(lease_left[i] > 0); lease_left[i]-- :: else fi;
  named[i] = (x & LEASED) | v;
#else
  named[i] = v;
#endif
  body[i] = t + interval;
  count[i] = c + 1;
  granted(key, t, LAXEST)
}
