"""Limiters on a clock that is set back and forth to extremes, against the reference model and three promises.

The model counts in integers without bounds, and every field of every answer is compared. A run is long, and
its clock goes where something ends: 1970 and 2262, edges of windows, the number of a window before it
repeats, as far as a limit can follow and a step beyond, and back by a nanosecond. The promises: denied at
every tick before `retry_after` and allowed exactly at it, from wherever the clock went; no step back gives
budget; and all that was ever admitted is bounded by the time that the readings span.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import pytest
from clock_limits import ALGORITHMS, some_limit
from mutants import FIRST, FIXED, LOG, MUTANTS, SLIDING, TOKEN, Mutant, planted
from scale import SEED, by_mode
from strategies import AHEAD, LAST_NS, METHODS, PRICES, WRAP, Deed, capacity, sibling, span_ns
from test_agreement import Pair, keys_apart
from test_laws import ticks_before

from fastlimit import Limiter, SlidingWindow, reference
from fastlimit.algorithms import fixed_window
from fastlimit.limits import DAY, Limit
from fastlimit.testing import ManualClock

__all__ = ["keys_apart"]  # places keys so that none can take another's slot

SECOND = 10**9
HOUR = 3_600 * SECOND
YEAR = 365 * DAY
PAST_NS = 2**57
LAST_UNIT = 3 * 2**58 - 1
BURST_NS = 2**57

RUNS = by_mode(12, 60, 1_500)
STEPS = by_mode(100, 200, 400)
CALLS = METHODS + tuple(f"bucket.{method}" for method in ("acquire", "acquire", "allow", "peek", "debit"))


class Torture:
    """A clock that goes anywhere, and how far the limits on it let it go, in unbounded integers."""

    def __init__(self, limits: Sequence[Limit], random_: random.Random, counts: Counter[str]) -> None:
        self.limit, self.random, self.counts = limits[0], random_, counts
        self.parameters = self.limit.parameters()
        self.span = span_ns(self.limit)
        self.clock = ManualClock()
        first = random_.choice((0, 1, PAST_NS, 17 * 10**17, LAST_NS - random_.randint(0, YEAR), LAST_NS))
        self.clock.set_ns(first)
        self.first, self.refused = first, min(LAST_NS, first - PAST_NS + reach(limits[0])) + 1
        self.end = min(self.refused - 1, *(first - PAST_NS + reach(limit) for limit in limits))
        self.wait = self.reset = 0

    @property
    def now(self) -> int:
        return self.clock.now_ns

    def edge(self) -> int:
        """Where now's window ends, or what is left of a unit, by the model."""
        if not self.parameters.epoch:
            return self.now + self.span
        index = fixed_window.index_of(self.now + self.parameters.offset, self.parameters)
        number = index + self.random.choice((-2, -1, 0, 1, 1, 1, 2))
        return fixed_window.start_of(max(number, 0), self.parameters) - self.parameters.offset

    def goal(self) -> tuple[str, int]:
        now, random_ = self.now, self.random
        goals: dict[str, int] = {
            "the first": 0,
            "the last": LAST_NS,
            "the end": self.end,
            "beyond": self.refused,
            "the start": self.first,
            "an edge": self.edge(),
            "a window": now + random_.choice((-1, 1)) * self.span,
            "a part": now + random_.choice((-1, 1)) * self.span // capacity(self.limit),
            "2^28 windows": now + random_.choice((-1, 1)) * self.span * WRAP,
            "2^17 windows": now + random_.choice((-1, 1)) * self.span * AHEAD,
            "2^57": now + random_.choice((-1, 1)) * BURST_NS,
            "hours": now + random_.randint(-9, 9) * HOUR,
            "days": now + random_.randint(-9, 9) * DAY,
            "years": now + random_.randint(-9, 9) * YEAR,
            "a tick back": now - 1,
            "retry_after": now + self.wait,
            "reset_after": now + self.reset,
            "anywhere": random_.randint(0, self.end),
        }
        what = random_.choice((*goals, "an edge", "retry_after", "retry_after", "reset_after"))
        return what, goals[what] + random_.choice((0, 0, 0, -1, 1))

    def move(self) -> None:
        """Somewhere, or nowhere; what no limit can follow must be refused, and change nothing."""
        before = self.now
        if self.random.random() < 0.3:
            return
        what, goal = self.goal()
        if not 0 <= goal < self.refused:
            with pytest.raises(ValueError, match="clock"):
                self.clock.set_ns(goal)
            assert before == self.now
            self.counts["refused moves"] += 1
        self.clock.set_ns(min(max(goal, 0), self.end))
        self.counts[f"to {what}"] += 1
        self.counts["forward"] += self.now > before
        self.counts["back"] += self.now < before


def reach(limit: Limit) -> int:
    """How long after its base the time of a limit ends."""
    parameters = limit.parameters()
    return 2**64 if parameters.epoch else -(-LAST_UNIT * 2**64 // (parameters.multiplier or 2**64))


def two_limits(algorithm: str, random_: random.Random) -> tuple[Limit, Limit]:
    """A limit, and what an update changes it to."""
    limit = some_limit(algorithm, random_)
    return limit, sibling(limit, random_.randint(1, 4), random_.randint(0, 2))


def agree(model: ModuleType, algorithm: str, seed: str, counts: Counter[str]) -> None:
    """One long run in both implementations; each answer is compared, and each announced wait kept."""
    random_ = random.Random(seed)
    limits = two_limits(algorithm, random_)
    torture = Torture(limits, random_, counts)
    pair = Pair(model, [limits], None, torture.clock)
    for pairs in (pair.slow, pair.fast):  # the time of a limiter begins with its first use
        pairs.peek("first use")
    for _ in range(STEPS):
        torture.move()
        deed = Deed(random_.choice(CALLS), random_.choice(PRICES), random_.choice((0, 0, 0, 1, 2)))
        if "update" == deed.method and random_.random() < 0.5:
            continue
        expected, actual = pair.do(deed)
        assert expected == actual, f"{deed} at {torture.now} of {limits}"
        counts["calls"] += 1
        if isinstance(expected, tuple):
            torture.wait, torture.reset = expected[3 + 1], expected[4 + 1]
            counts["denied"] += not expected[0]
            counts["endless waits"] += LAST_NS in (torture.wait, torture.reset)


@pytest.mark.clocks
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_field_is_the_model_s(algorithm: str, evidence: Callable[..., None]) -> None:
    counts = Counter[str]()
    for number in range(RUNS):
        agree(reference, algorithm, f"{SEED} {algorithm} {number}", counts)
    evidence(runs=RUNS, **counts)
    assert min(counts["back"], counts["forward"], counts["denied"], counts["refused moves"]) > RUNS


# ---- promises


class Story:
    """One key of one limiter, which only ever acquires, on a clock that goes anywhere."""

    def __init__(
        self, make: Callable[..., Any], limit: Limit, random_: random.Random, counts: Counter[str]
    ) -> None:
        self.torture = Torture([limit], random_, counts)
        self.limit, self.random, self.counts = limit, random_, counts
        self.limiter = make(limit, clock=self.torture.clock)
        for one in (self.limiter, Limiter(limit, clock=self.torture.clock)):  # which tells the clock its end
            one.peek("first use")
        self.admitted = self.latest = self.crossed = 0
        self.begin: int | None = None
        self.stands, self.slides = 0, isinstance(limit, SlidingWindow)

    @property
    def now(self) -> int:
        return self.torture.now

    def window(self) -> int:
        parameters = self.limit.parameters()
        return fixed_window.index_of(self.now + parameters.offset, parameters) if parameters.epoch else 0

    def acquire(self, cost: int) -> None:
        decision = self.limiter.acquire("key", cost)
        self.torture.wait, self.torture.reset = decision.retry_after_ns, decision.reset_after_ns
        if decision.allowed:
            self.begin = self.now if self.begin is None else self.begin
            self.admitted += cost
            self.settle(admitted=True)
        self.latest = max(self.latest, self.now)
        self.counts["admitted" if decision.allowed else "denied"] += 1

    def check_step(self) -> None:
        """A step back gives nothing: as much is left as before, or less."""
        before, left, window = self.now, self.limiter.peek("key").remaining, self.window()
        self.torture.move()
        windows = self.window() - window
        # Further back than 2^17 windows, a window counts as new: see `fixed_window`. And what of the previous
        # window is in sight of a sliding one depends on where in its window the clock lands.
        if self.now < before and -windows <= AHEAD and self.ahead() <= (1 if self.slides else AHEAD):
            assert self.limiter.peek("key").remaining <= left, "a step back gave budget"
            self.counts["steps back checked"] += 1
        self.settle()
        self.crossed += windows if windows > 0 else windows <= -AHEAD

    def ahead(self) -> int:
        """How many windows the key's state seems to be ahead of now; their numbers repeat."""
        return (self.stands - self.window()) % WRAP

    def settle(self, *, admitted: bool = False) -> None:
        """In which window the key's state stands after a call."""
        if (admitted and self.ahead() > 1) or 1 < self.ahead() <= AHEAD:
            self.stands = self.window()

    def check_wait(self, cost: int) -> None:
        begin, decision = self.now, self.limiter.peek("key", cost)
        assert decision.allowed == (decision.retry_after_ns == 0)
        if decision.allowed or begin + decision.retry_after_ns > self.torture.end:
            return
        if decision.retry_after_ns == LAST_NS:  # where durations end; only centuries back
            return
        for tick in ticks_before(decision.retry_after_ns, self.random.randint(0, 2**16)):
            self.torture.clock.set_ns(begin + tick)
            early = self.limiter.peek("key", cost)
            assert (False, decision.retry_after_ns - tick) == (early.allowed, early.retry_after_ns)
        self.torture.clock.set_ns(begin + decision.retry_after_ns)
        assert self.limiter.peek("key", cost).allowed
        self.torture.clock.set_ns(begin)
        self.counts["waits checked"] += 1

    def check_total(self) -> None:
        """What the readings allow, the latest of them above all, however often the clock was set back."""
        if self.begin is None:
            return
        rate, parameters, most = self.limit.rate, self.limit.parameters(), capacity(self.limit)
        unit_ns = -(-(2**64) // (parameters.multiplier or 2**64))
        lived = self.latest - self.begin + 2 * (unit_ns if unit_ns > 1 else 0)
        if parameters.epoch:
            assert self.admitted <= most * (1 + self.crossed)
        elif parameters.window:
            assert self.admitted <= most * (1 + lived // rate.period_ns)
        else:
            error = lived // 10**6 if unit_ns > 1 else 0
            assert self.admitted <= most + (lived + error) * rate.count // rate.period_ns


def tell(make: Callable[..., Any], algorithm: str, seed: str, counts: Counter[str]) -> None:
    random_ = random.Random(seed)
    story = Story(make, some_limit(algorithm, random_), random_, counts)
    most = capacity(story.limit)
    for _ in range(STEPS):
        story.check_step()
        cost = min(max(random_.choice((1, 1, 2, most, most // 2, most // 3)), 1), most)
        story.acquire(cost)
        if random_.random() < 0.3:
            story.check_wait(cost)
        story.check_total()


@pytest.mark.clocks
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_promises_hold_wherever_the_clock_goes(algorithm: str, evidence: Callable[..., None]) -> None:
    counts = Counter[str]()
    for number in range(RUNS):
        tell(Limiter, algorithm, f"{SEED} {algorithm} {number}", counts)
    evidence(runs=RUNS, **counts)
    assert counts["steps back checked"] > RUNS
    assert counts["waits checked"] > RUNS // 4


# ---- controls


def assert_found(run: Callable[[str], None]) -> None:
    for number in range(500):
        try:
            run(f"{SEED} {number}")
        except AssertionError:
            return
    raise AssertionError("not found in 500 runs")


@pytest.mark.clocks
@pytest.mark.parametrize(
    "what",
    [
        "token_bucket: saves up while idle",
        "reference: its own time begins late",
        "first_window: over one unit late",
        "fixed_window: a step back begins a window",
        "fixed_window: a step back of 2^17 windows is not seen",
        "sliding_window: negative time in a window to come",
        "leaky_bucket: its own turn counted in the delay",
        "sliding_log: time in a log runs back",
    ],
)
def test_a_planted_slip_disagrees(what: str) -> None:
    [mutant] = [mutant for mutant in MUTANTS if str(mutant) == what]
    algorithm = mutant.algorithm.name if mutant.algorithm is not None else "TOKEN_BUCKET"
    model = planted(mutant)
    assert_found(lambda seed: agree(model, algorithm, f"{what} {seed}", Counter()))


TRUSTING = [
    Mutant("a clock that steps back takes its debts along", TOKEN, "tat = max(state.tat, now) + cost",
           "tat = (now if state.tat - now > limit.tolerance else max(state.tat, now)) + cost"),
    Mutant("a far step back gives budget", FIXED, "index & INDEX_MASK, state.previous, state.current",
           "index & INDEX_MASK, 0, 0"),
    Mutant("a clock before its window begins one", FIRST, "now >= state.start + limit.window",
           "not state.start <= now < state.start + limit.window"),
    Mutant("time before a window is time in it", SLIDING, "max(now - start_of(state, now, limit), 0)",
           "abs(now - start_of(state, now, limit))"),
    Mutant("time in a log runs back, without what came later", LOG, "return max(now, state.newest, 1)",
           "return now + 2 * (state.newest - now) if 0 < now < state.newest else max(now, state.newest, 1)"),
]  # fmt: skip


@pytest.mark.clocks
@pytest.mark.parametrize("mutant", TRUSTING, ids=lambda mutant: mutant.what)
def test_an_algorithm_that_trusts_its_clock_breaks_a_promise(mutant: Mutant) -> None:
    model = planted(mutant)
    assert mutant.algorithm is not None
    name = mutant.algorithm.name
    assert_found(lambda seed: tell(model.ReferenceLimiter, name, seed, Counter()))
