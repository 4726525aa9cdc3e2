/* The names of keys in a store: a digest per slot with its generation, beside the slots. Ahead of the code.

   Written by swaps only, in a loop, never to an older generation, between identity and going live. */

byte plane_key[SLOTS], plane_gen[SLOTS];

inline settle_plane() {
  do
  :: atomic { e = plane_key[claim]; b = plane_gen[claim] };
     if
     :: e == key && b == claim_gen -> break
     :: b > claim_gen -> goto start
     :: else ->
        CRASH;
#ifdef PLAIN_PLANE
        atomic { plane_key[claim] = key; plane_gen[claim] = claim_gen };
        break
#else
        atomic { if
        :: plane_key[claim] == e && plane_gen[claim] == b -> plane_key[claim] = key; plane_gen[claim] = claim_gen
        :: else fi };
#ifdef PLANE_ONCE
        break
#endif
#endif
     fi
  od
}

/* e: whose the slot is, if the plane carries the generation that the identity had before and after; else NOBODY. */
inline read_name() {
  g = gen[i];
  atomic { e = plane_key[i]; if :: plane_gen[i] != g -> e = NOBODY :: else fi };
  atomic { if :: gen[i] != g -> e = NOBODY :: else fi }
}
