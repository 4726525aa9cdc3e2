# The clock laid open: its anchors, watching it, and scripting what it reads. A part of probe.pyx.

# ---- the clock

cdef extern from * nogil:
    """
    #define probe_anchor (&fl_time.anchors[fl_time.generation & 1])
    #if defined(__x86_64__)
    #define probe_wait_for_loads() __builtin_ia32_lfence()  /* a counter is read as early as can be */
    #else
    #define probe_wait_for_loads() __atomic_thread_fence(__ATOMIC_SEQ_CST)
    #endif
    """
    struct Anchor "fl_anchor":
        uint64_t counter
        uint64_t rate
        uint64_t span
        int64_t ns
    struct Time:
        uint64_t generation
        uint64_t setting
        uint64_t origin
        int64_t origin_ns
        int64_t wall_due
        int64_t wall_offset
        uint64_t first_rate
    Anchor *anchor "probe_anchor"
    Time time "fl_time"
    void wait_for_loads "probe_wait_for_loads"() noexcept
    int BOOT "FL_CLOCK"
    int REAL "CLOCK_REALTIME"
    struct Script:
        bint on
        bint careless
        uint64_t counter
        uint64_t rate
        int64_t boot
        int64_t wall
        int64_t reading
        int64_t passed
        int64_t hiccup
        long hiccup_in
        long voids
        long dropped
    Script script "probe_script"
    uint64_t scripted_counter "probe_counter_now"() noexcept

ClockState = namedtuple(
    "ClockState", "counter rate span ns generation setting origin origin_ns wall_due wall_offset first_rate"
)
Watch = namedtuple("Watch", "back across behind ahead")


def counter_trusted():
    return clock.counter_trusted()


def start_clock(trusted):
    """Start the probe's own clock from nothing."""
    global latest
    memset(&time, 0, sizeof(time))
    script.careless = False
    latest = 0
    clock.start_clock(trusted)


def clock_state():
    return ClockState(
        anchor.counter, anchor.rate, anchor.span, anchor.ns, time.generation, time.setting, time.origin,
        time.origin_ns, time.wall_due, time.wall_offset, time.first_rate,
    )


def edit_clock(**fields):
    """Change the anchor in force, and what the next one will be made from."""
    state = clock_state()._replace(**fields)
    anchor.counter, anchor.rate, anchor.span, anchor.ns = state[:4]
    time.setting, time.origin, time.origin_ns, time.wall_due, time.wall_offset, time.first_rate = state[5:]


def now():
    return clock.system_now()


def boot_time():
    return clock.system_gettime(BOOT)


def wall_offset():
    """Wall time less time since boot, by the system's clocks."""
    return clock.system_gettime(REAL) - clock.system_gettime(BOOT)


cdef int64_t latest


def watch(int reads):
    """Read the clock many times beside the system's, and beside other threads that do so. At worst, in ns:

    back    it fell behind an earlier reading of this thread
    across  it fell behind an earlier reading of any thread
    behind  it was earlier than the system's clock just before
    ahead   it was later than the system's clock just after
    """
    cdef int64_t last = 0, back = 0, across = 0, behind = 0, ahead = 0
    cdef int64_t seen, before, reading
    cdef int _
    with nogil:
        for _ in range(reads):
            before = clock.system_gettime(BOOT)
            seen = load_relaxed_i64(&latest)
            wait_for_loads()
            reading = clock.system_now()
            ahead = max(ahead, reading - clock.system_gettime(BOOT))
            behind = max(behind, before - reading)
            back = max(back, last - reading)
            across = max(across, seen - reading)
            last = reading
            if reading > seen:
                cas_u64(<uint64_t *> &latest, seen, reading)
    return Watch(back, across, behind, ahead)


# ---- scripted

def follow(counter, rate, boot, wall, reading=20):
    """From now on the clock reads a counter and system clocks that the test makes up (see `script.h`)."""
    script.on = False
    script.counter, script.rate, script.boot, script.wall, script.reading = counter, rate, boot, wall, reading
    script.passed = script.hiccup_in = 0
    script.on = True


def follow_none():
    script.on = script.careless = False


def let_pass(ns):
    script.passed += ns


def hiccup(after, ns):
    """Let time pass before a reading of a source: the one after so many."""
    script.hiccup_in, script.hiccup = after + 1, ns


def careless():
    """Control: swaps of the clock's generation do not compare, until the clock is started anew."""
    script.careless = True


def collisions():
    """How often, so far, a reader voided a setter's sample; and a swap of the generation came too late."""
    return script.voids, script.dropped


def sources():
    """Counter, time since boot and wall time as a script has them now."""
    return scripted_counter(), script.boot + script.passed, script.wall + script.passed


cdef enum:
    READINGS = 8

cdef struct Reader:  # one that reads the clock some times, and lets time pass before
    int number
    int64_t[READINGS] gaps
    int64_t[READINGS] told
    long[READINGS] began
    long[READINGS] ended

cdef long events


cdef void read_clock(void *given) noexcept nogil:
    global events
    cdef Reader *reader = <Reader *> given
    cdef int i
    for i in range(reader.number):
        script.passed += reader.gaps[i]
        events += 1
        reader.began[i] = events
        reader.told[i] = clock.system_now()
        events += 1
        reader.ended[i] = events


def play_readings(list parts, bytes choices, int preemptions, int deaths=0):
    """Let several read the clock in turns, as the choices say (see `stage.h`); each has a list of gaps in ns.

    Returns how many options there were at each point; and of each reading when it began, ended, what it told.
    """
    cdef Reader[8] readers
    cdef void *cast[8]
    cdef int i, j, number = <int> len(parts)
    if not 1 <= number <= CAST:
        raise ValueError(f"1 to {CAST} take part, not {number}")
    memset(readers, 0, sizeof(readers))
    for i in range(number):
        readers[i].number = <int> len(parts[i])
        for j in range(readers[i].number):
            readers[i].gaps[j] = parts[i][j]
        cast[i] = &readers[i]
    watch_slots()
    stage.choices, stage.given, stage.one_in = choices, len(choices), 0
    stage.preemptions, stage.deaths = preemptions, deaths
    if not play_parts(cast, number, read_clock):
        raise RuntimeError("a reading does not come to an end")
    return stage.options[:stage.points], [
        (readers[i].began[j], readers[i].ended[j], readers[i].told[j])
        for i in range(number) for j in range(readers[i].number) if readers[i].ended[j]
    ]
