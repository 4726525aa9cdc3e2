# Several limiters at once: `acquire_all`. A part of _core.pyx, which includes it.

cdef struct Member:  # of an acquire_all: one limiter and one key, both kept alive by the caller's triples
    PyObject *limiter
    PyObject *key
    Hash hash
    int64_t cost
    int first  # of its charges


def acquire_all(triples):
    """Charge several limiters, or none of them. Returns a Decision, whose `name` says which limit binds.

    `triples` are 1 to 8 tuples (limiter, key, cost); those with the same limiter and key are added up first.
    All limiters must share one clock (ValueError). A concurrent call may be refused by a charge that is about
    to be rolled back; nothing is ever admitted in excess. Errors as in `Limiter.acquire`, with the index of
    the triple, before anything changes.
    """
    cdef PyObject *held[MAX_ACQUIRE]
    cdef object given = batch_of(triples, "triples")
    cdef Py_ssize_t size = PySequence_Fast_GET_SIZE(given)
    cdef int i
    if not 1 <= size <= MAX_ACQUIRE:
        raise ValueError(
            f"acquire_all takes from 1 to {MAX_ACQUIRE} triples (limiter, key, cost), not {size}"
        )
    for i in range(<int> size):  # a list may be changed before we are done
        held[i] = PySequence_Fast_ITEMS(given)[i]
        Py_INCREF(<object> held[i])
    try:
        return acquire_held(held, <int> size)
    finally:
        for i in range(<int> size):
            Py_DECREF(<object> held[i])


cdef Decision acquire_held(PyObject **triples, int size):
    cdef Member[MAX_ACQUIRE] members
    cdef Charge[MAX_ACQUIRE * MAX_LIMITS] charges
    cdef Answer whole
    cdef int binding, i = 0, number = 0, member_count = 0
    members[0].limiter = NULL
    try:
        for i in range(size):
            member_count = add_member(<object> triples[i], members, member_count)
    except (TypeError, ValueError) as error:
        raise type(error)(f"triples[{i}]: {error}") from None
    for i in range(member_count):
        members[i].first = number
        prepare(
            &(<Limiter> members[i].limiter).core, &members[i].hash, NULL, members[i].cost, &charges[number]
        )
        number += (<Limiter> members[i].limiter).core.limit_count
    charge_all(charges, number, clock_now((<Limiter> members[0].limiter).core.clock), True)
    binding = combine_all(charges, number, CHARGE, &whole)
    for i in range(member_count):
        count_member(&members[i], charges, whole.allowed)
    i = member_count - 1
    while members[i].first > binding:
        i -= 1
    return decision_of(&whole, <str> (<Limiter> members[i].limiter).names[binding - members[i].first])


cdef int add_member(object triple, Member *members, int member_count) except -1:
    """Add a triple to one before it of its limiter and key, or as one more. Returns how many there are."""
    cdef Limiter limiter
    cdef Member *member = &members[member_count]
    cdef int i
    if not isinstance(triple, tuple) or len(<tuple> triple) != 3:
        raise TypeError(f"must be a tuple (limiter, key, cost), not {triple!r}")
    if not isinstance((<tuple> triple)[0], Limiter):
        raise TypeError(f"must begin with a Limiter, not {type(triple[0]).__name__}")
    limiter = <Limiter> (<tuple> triple)[0]
    member.limiter = <PyObject *> limiter
    member.key = PyTuple_GET_ITEM(triple, 1)
    open_call(limiter, <object> member.key, &member.hash)
    member.cost = charged_cost(limiter, (<tuple> triple)[2])
    if limiter.core.clock != (<Limiter> members[0].limiter).core.clock:
        raise ValueError("its limiter has another clock than the first one; give both the same clock")
    for i in range(member_count):
        if members[i].limiter == member.limiter and is_same_key(&members[i].hash, &member.hash):
            members[i].cost = charged_cost(limiter, members[i].cost + <object> member.cost)
            return member_count
    return member_count + 1


cdef int count_member(const Member *member, const Charge *charges, bint admitted) except -1:
    """An admitted call counts on every limiter, a refused one on those that refused it, a peek on none."""
    cdef Limiter limiter = <Limiter> member.limiter
    cdef bint refused = False
    cdef int i
    for i in range(member.first, member.first + limiter.core.limit_count):
        refused = refused or not charges[i].trace.allowed
    if member.cost and admitted:
        count(limiter.core.stripes, 1, 0)
    elif refused:
        count(limiter.core.stripes, 0, 1)
        note(limiter.core.sketch, <object> member.key, &member.hash)
    return 0
