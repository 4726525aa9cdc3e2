"""The laws that hold for every algorithm, limit and cost, in integer ticks, on the compiled engine.

Each law is a function of a `Scene`: a key that some calls have brought somewhere, at a clock that only went
forward. It runs on the compiled limiter and, as a control, on the model with a bug that it must notice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from mutants import FIRST, FIXED, LEAKY, LOG, MUTANTS, SLIDING, TOKEN, planted
from strategies import (
    LAST_NS,
    LIFE_NS,
    LIMITS,
    Cost,
    Deed,
    Gap,
    Start,
    approaches,
    costs,
    early_starts,
    positions,
)
from strategies import capacity as capacity_of

from fastlimit import FixedWindow, LeakyBucket, Limiter, SlidingLog, SlidingWindow, TokenBucket
from fastlimit.limits import Algorithm, Limit, limits_from
from fastlimit.testing import ManualClock

KEY, FRESH = "key", "never seen"
FIELDS = ("allowed", "limit", "remaining", "retry_after_ns", "reset_after_ns", "delay_ns", "name")
RATE_ERROR = Fraction(1, 10**6)
TICK = 1


Schedule = Sequence[tuple[Gap, Deed]]


class Attempt(NamedTuple):
    at_ns: int
    cost: int
    allowed: bool
    delay_ns: int
    reset_ns: int


class Scene:
    """A limiter, and where its key stands after some calls; `attempts` are those to acquire."""

    def __init__(self, make: Callable[..., Any], limit: Limit, start: Start) -> None:
        self.limit = limit
        self.capacity = capacity_of(limit)
        self.parameters = limit.parameters()
        self.clock = ManualClock()
        self.clock.set_ns(start.at(limit))
        self.limiter = make(limit, clock=self.clock)
        self.limiter.peek("first use")
        self.attempts: list[Attempt] = []
        life_ns = LAST_NS if self.parameters.epoch else int(LIFE_NS * self.unit_ns)
        self.end_ns = min(self.now_ns + life_ns, LAST_NS)

    @property
    def now_ns(self) -> int:
        return int(self.clock.now_ns)

    @property
    def unit_ns(self) -> Fraction:
        """A unit of the limit's own time."""
        return Fraction(2**64, self.parameters.multiplier or 2**64)

    @property
    def token_ns(self) -> Fraction:
        return Fraction(self.limit.rate.period_ns, self.limit.rate.count)

    @property
    def admitted(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.allowed]

    def at(self, ns: int) -> None:
        assume(ns <= self.end_ns)
        self.clock.set_ns(ns)

    def acquire(self, cost: int) -> Any:
        decision = self.limiter.acquire(KEY, cost)
        self.attempts.append(
            Attempt(self.now_ns, cost, decision.allowed, decision.delay_ns, decision.reset_after_ns)
        )
        return decision

    def passable(self, cost: Cost) -> int:
        """A cost that may pass some day."""
        return min(max(cost.units(self.limit), 1), self.capacity)

    def sight(self, key: str = KEY, *, but: str = "") -> list[tuple[Any, ...]]:
        """Everything that can be seen of a key without changing it, but for one field."""
        peeks = [self.limiter.peek(key, cost) for cost in (0, 1, self.capacity // 2, self.capacity)]
        return [tuple(getattr(peek, field) for field in FIELDS if field != but) for peek in peeks]

    def play(self, schedule: Schedule) -> None:
        last = (0, 0)
        for gap, deed in schedule:
            self.at(gap.after(self.now_ns, self.limit, *last))
            match deed.method:
                case "acquire":
                    decision = self.acquire(self.passable(deed.cost))
                case "peek":
                    decision = self.limiter.peek(KEY, self.passable(deed.cost))
                case method:
                    decision = getattr(self.limiter, method)(KEY, deed.cost.units(self.limit))
            last = decision.retry_after_ns, decision.reset_after_ns


Law = Callable[[Scene, Cost, int], None]


def ticks_before(wait_ns: int, position: int) -> list[int]:
    """The ticks at which to look: every one of a short wait, else both ends and some between."""
    if wait_ns <= 64:
        return list(range(wait_ns))
    return sorted({0, 1, wait_ns * position // 2**17, wait_ns // 2, wait_ns - 2, wait_ns - 1})


# ---- of every algorithm


def refused_until_retry_after(scene: Scene, cost: Cost, position: int) -> None:
    """Denied at every tick before `retry_after`, allowed at it; 0 exactly when allowed."""
    units, begin = scene.passable(cost), scene.now_ns
    decision = scene.limiter.peek(KEY, units)
    assert decision.allowed == (decision.retry_after_ns == 0)
    for tick in ticks_before(decision.retry_after_ns, position):
        scene.at(begin + tick)
        refused = scene.limiter.acquire(KEY, units)
        assert (False, decision.retry_after_ns - tick) == (refused.allowed, refused.retry_after_ns)
    scene.at(begin + decision.retry_after_ns)
    assert scene.limiter.acquire(KEY, units).allowed


def remaining_calls_pass(scene: Scene, cost: Cost, position: int) -> None:
    """`remaining` calls of cost 1 pass now, and not one more."""
    remaining = scene.limiter.acquire(KEY, scene.passable(cost)).remaining
    assert remaining == scene.limiter.peek(KEY, 1).remaining
    if remaining <= 20:
        assert [True] * remaining == [scene.limiter.allow(KEY) for _ in range(remaining)]
    else:
        assert scene.limiter.acquire(KEY, remaining).allowed
    assert not scene.limiter.allow(KEY)


def fresh_at_reset_after(scene: Scene, cost: Cost, position: int) -> None:
    """At `reset_after` and later a key cannot be told from one never seen; at every tick before, it can."""
    units, begin = scene.passable(cost), scene.now_ns
    reset_ns = scene.limiter.acquire(KEY, units).reset_after_ns
    for tick in ticks_before(reset_ns, position):
        scene.at(begin + tick)
        told = scene.limiter.peek(KEY, scene.capacity)
        assert (False, reset_ns - tick) == (told.allowed, told.reset_after_ns)
    scene.at(begin + reset_ns)
    assert scene.sight(FRESH) == scene.sight(KEY)
    for _ in range(2):
        scene.limiter.acquire(KEY, units)
        scene.limiter.acquire(FRESH, units)
        assert scene.sight(FRESH) == scene.sight(KEY)


def refusals_change_nothing(scene: Scene, cost: Cost, position: int) -> None:
    """A refused call leaves the key as it was; so do peeks, and costs of 0, which always pass."""
    if scene.limiter.peek(KEY, scene.capacity).allowed:
        scene.limiter.debit(KEY, scene.passable(cost))
    before = scene.sight()
    assert not scene.limiter.acquire(KEY, scene.capacity).allowed
    assert scene.limiter.acquire(KEY, 0).allowed
    assert before == scene.sight()


def refund_undoes_acquire(scene: Scene, cost: Cost, position: int) -> None:
    """Refunded at once, a call leaves the key as it was; refunded beyond what it owes, as one never seen.

    A log remembers its latest event, so it is fresh one window after a refund.
    """
    but = "reset_after_ns" if scene.parameters.algorithm == LOG else ""
    before, units = scene.sight(but=but), scene.passable(cost)
    if scene.limiter.acquire(KEY, units).allowed:
        scene.limiter.refund(KEY, units)
    assert before == scene.sight(but=but)
    scene.limiter.refund(KEY, 4 * scene.capacity)
    assert scene.sight(FRESH) == scene.sight(KEY)


def debits_have_a_floor(scene: Scene, cost: Cost, position: int) -> None:
    """A debit always applies, down to one further capacity of debt: the largest one is 2 * capacity."""
    assert scene.limiter.debit(KEY, cost.units(scene.limit)).allowed
    scene.limiter.debit(KEY, 2 * scene.capacity)
    deepest = scene.sight()
    scene.limiter.debit(KEY, 2**63 - 1)
    assert deepest == scene.sight()
    scene.limiter.reset(KEY)
    scene.limiter.debit(KEY, 2**63 - 1)
    assert scene.capacity - 1 == scene.limiter.refund(KEY, 2 * scene.capacity - 1).remaining


# ---- of one or some


def turns_are_even(scene: Scene, cost: Cost, position: int) -> None:
    """A leaky bucket's output: each request's turn comes when the one before is served, or at once."""
    error = 0 if scene.unit_ns == 1 else scene.unit_ns + TICK
    for first, second in zip(scene.admitted, scene.admitted[1:], strict=False):
        served = first.at_ns + first.delay_ns + first.cost * scene.token_ns
        assert abs(second.at_ns + second.delay_ns - max(served, Fraction(second.at_ns))) <= error


def no_interval_has_more_than_burst_and_rate(scene: Scene, cost: Cost, position: int) -> None:
    """A bucket admits at most burst + rate * t within any t; t is rounded up where units are no ticks."""
    error = 0 if scene.unit_ns == 1 else scene.unit_ns
    for i, first in enumerate(scene.admitted):
        total = 0
        for last in scene.admitted[i:]:
            total += last.cost
            assert total <= scene.capacity + (last.at_ns - first.at_ns + error) / scene.token_ns


def window_number(limit: Limit, ns: int) -> int:
    """By the calendar of the standard library."""
    rate = limit.rate
    if rate.months == 0:
        return (ns - rate.origin_ns) // rate.period_ns
    day = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=ns // 10**9)
    return ((day.year - 1970) * 12 + day.month - 1) // rate.months


def no_window_has_more_than_its_count(scene: Scene, cost: Cost, position: int) -> None:
    totals: dict[int, int] = {}
    for attempt in scene.admitted:
        window = window_number(scene.limit, attempt.at_ns)
        totals[window] = totals.get(window, 0) + attempt.cost
    assert max(totals.values(), default=0) <= scene.capacity


def no_window_from_a_first_hit_has_more(scene: Scene, cost: Cost, position: int) -> None:
    """Nor is one shorter than asked; where units are coarser it is up to two of them longer."""
    period, coarse = scene.limit.rate.period_ns, 0 if scene.unit_ns == 1 else 2 * scene.unit_ns
    end, total = 0, 0
    for attempt in scene.admitted:
        if attempt.at_ns >= end:
            end, total = attempt.at_ns + attempt.reset_ns, 0
            assert period <= attempt.reset_ns <= period + coarse
        total += attempt.cost
        assert total <= scene.capacity


def estimate_decides(scene: Scene, cost: Cost, position: int) -> None:
    """A sliding window admits exactly while previous * (W - e) / W + current + cost <= L, in fractions."""
    rate, totals = scene.limit.rate, dict[int, int]()
    for attempt in scene.attempts:
        window = window_number(scene.limit, attempt.at_ns)
        elapsed = (attempt.at_ns - rate.origin_ns) % rate.period_ns
        previous = totals.get(window - 1, 0) * Fraction(rate.period_ns - elapsed, rate.period_ns)
        current = totals.get(window, 0)
        assert attempt.allowed == (previous + current + attempt.cost <= rate.count)
        totals[window] = current + attempt.cost * attempt.allowed


def log_decides(scene: Scene, cost: Cost, position: int) -> None:
    """A sliding log admits exactly while what it admitted in (t - W, t], and the cost, are at most L."""
    for i, attempt in enumerate(scene.attempts):
        since = attempt.at_ns - scene.limit.rate.period_ns
        inside = sum(one.cost for one in scene.attempts[:i] if one.allowed and one.at_ns > since)
        assert attempt.allowed == (inside + attempt.cost <= scene.capacity)


def long_run_rate_is_the_one_asked_for(scene: Scene, cost: Cost, position: int) -> None:
    """Whole capacities, each as soon as it passes: as many per time as asked, but for a unit at the ends."""
    assume(scene.limit.rate.months == 0)
    span = scene.token_ns * (scene.limit.rate.count if scene.parameters.window else scene.capacity)
    grants = min(20, (scene.end_ns - scene.now_ns) // int(span + 1) - 2)
    assume(grants > 0)
    begin = grant_all(scene)
    begin = grant_all(scene)
    for _ in range(grants - 1):
        grant_all(scene)
    ideal = grants * span
    assert abs(grant_all(scene) - begin - ideal) <= ideal * RATE_ERROR + scene.unit_ns + TICK


def grant_all(scene: Scene) -> int:
    """When the whole capacity passes next."""
    scene.at(scene.now_ns + scene.limiter.peek(KEY, scene.capacity).retry_after_ns)
    assert scene.limiter.acquire(KEY, scene.capacity).allowed
    return scene.now_ns


# ---- the proof

EVERY = (refused_until_retry_after, remaining_calls_pass, fresh_at_reset_after, refusals_change_nothing,
         refund_undoes_acquire, debits_have_a_floor)  # fmt: skip
OF_SOME: dict[Algorithm, tuple[Law, ...]] = {
    TOKEN: (no_interval_has_more_than_burst_and_rate, long_run_rate_is_the_one_asked_for),
    LEAKY: (no_interval_has_more_than_burst_and_rate, long_run_rate_is_the_one_asked_for, turns_are_even),
    FIXED: (no_window_has_more_than_its_count, long_run_rate_is_the_one_asked_for),
    FIRST: (no_window_from_a_first_hit_has_more, long_run_rate_is_the_one_asked_for),
    SLIDING: (estimate_decides,),
    LOG: (log_decides, long_run_rate_is_the_one_asked_for),
}
LAWS = [(law, algorithm) for algorithm, some in OF_SOME.items() for law in (*EVERY, *some)]


def prove(law: Law, algorithm: Algorithm, make: Callable[..., Any], options: settings) -> None:
    methods = ["acquire", "debit", "refund", "peek"] if law in EVERY else ["acquire"]
    if (law, algorithm) == (fresh_at_reset_after, LOG):  # not fresh yet when its last unit is given back
        methods.remove("refund")

    @options
    @given(LIMITS[algorithm], early_starts, approaches(methods), costs, positions)
    def holds(limit: Limit, start: Start, schedule: Schedule, cost: Cost, position: int) -> None:
        scene = Scene(make, limit, start)
        scene.play(schedule)
        law(scene, cost, position)

    holds()


def name_of(value: Any) -> str:
    return value.name.lower() if isinstance(value, Algorithm) else getattr(value, "__name__", str(value))


@pytest.mark.proof
@pytest.mark.parametrize(("law", "algorithm"), LAWS, ids=name_of)
def test_law(law: Law, algorithm: Algorithm) -> None:
    # Fewer examples than schedules of agreement: each looks at many ticks.
    fewer = settings(max_examples=settings().max_examples // 4, suppress_health_check=list(HealthCheck))
    prove(law, algorithm, Limiter, fewer)


BREACHES: list[tuple[Law, Algorithm, str]] = [
    (refused_until_retry_after, TOKEN, "token_bucket: retry a unit late"),
    (refused_until_retry_after, TOKEN, "token_bucket: retry a unit early"),
    (refused_until_retry_after, FIXED, "fixed_window: window ends late"),
    (refused_until_retry_after, FIRST, "first_window: over one unit late"),
    (refused_until_retry_after, SLIDING, "sliding_window: retry a tick early"),
    (refused_until_retry_after, SLIDING, "sliding_window: retry a tick late"),
    (refused_until_retry_after, LEAKY, "reference: waits rounded down"),
    (remaining_calls_pass, TOKEN, "token_bucket: remaining rounded up"),
    (remaining_calls_pass, FIXED, "fixed_window: full one call early"),
    (remaining_calls_pass, SLIDING, "sliding_window: remaining rounded up"),
    (fresh_at_reset_after, TOKEN, "token_bucket: fresh a unit early"),
    (fresh_at_reset_after, FIXED, "fixed_window: a fresh key belongs to the next window"),
    (fresh_at_reset_after, FIRST, "first_window: over one unit late"),
    (fresh_at_reset_after, SLIDING, "sliding_window: fresh a window early"),
    (refusals_change_nothing, FIRST, "reference: a peek charges"),
    (refusals_change_nothing, LEAKY, "reference: a cost of 0 is refused in debt"),
    (refund_undoes_acquire, TOKEN, "token_bucket: a refund one short"),
    (refund_undoes_acquire, SLIDING, "sliding_window: refund from this window only"),
    (debits_have_a_floor, TOKEN, "token_bucket: debt a unit too deep"),
    (debits_have_a_floor, FIXED, "fixed_window: a window debt too deep"),
    (debits_have_a_floor, FIRST, "first_window: a first debt too deep"),
    (turns_are_even, LEAKY, "leaky_bucket: its own turn counted in the delay"),
    (no_interval_has_more_than_burst_and_rate, TOKEN, "token_bucket: one token too many"),
    (no_interval_has_more_than_burst_and_rate, TOKEN, "token_bucket: saves up while idle"),
    (no_window_has_more_than_its_count, FIXED, "fixed_window: one call too many"),
    (no_window_has_more_than_its_count, FIXED, "fixed_window: months of 31 days"),
    (no_window_from_a_first_hit_has_more, FIRST, "first_window: one call too many"),
    (estimate_decides, SLIDING, "sliding_window: full one part early"),
    (estimate_decides, SLIDING, "sliding_window: previous window forgotten"),
    (estimate_decides, SLIDING, "sliding_window: previous window in full"),
    (refused_until_retry_after, LOG, "sliding_log: a unit leaves one tick late"),
    (refused_until_retry_after, LOG, "sliding_log: a cost waits for the oldest unit only"),
    (refund_undoes_acquire, LOG, "sliding_log: a refund takes the oldest units"),
    (refund_undoes_acquire, LOG, "sliding_log: a refund of all is not fresh"),
    (debits_have_a_floor, LOG, "sliding_log: a debt a unit too deep"),
    (log_decides, LOG, "sliding_log: one call too many"),
    (log_decides, LOG, "sliding_log: a unit leaves one tick late"),
    (long_run_rate_is_the_one_asked_for, TOKEN, "reference: 2 parts in a million slow"),
    (long_run_rate_is_the_one_asked_for, FIRST, "reference: 2 parts in a million slow"),
    (long_run_rate_is_the_one_asked_for, FIXED, "fixed_window: window ends late"),
]


@pytest.mark.proof
@pytest.mark.parametrize(("law", "algorithm", "bug"), BREACHES, ids=name_of)
def test_law_notices_a_planted_bug(law: Law, algorithm: Algorithm, bug: str) -> None:
    [mutant] = [mutant for mutant in MUTANTS if str(mutant) == bug]
    searching = settings(
        max_examples=5_000,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    with pytest.raises(AssertionError):
        prove(law, algorithm, planted(mutant).ReferenceLimiter, searching)


# ---- what a limit is made from


@pytest.mark.proof
@pytest.mark.parametrize("algorithm", [TOKEN, LEAKY, FIXED, SLIDING, LOG], ids=name_of)
def test_a_limit_reads_back_from_its_text(algorithm: Algorithm) -> None:
    @given(LIMITS[algorithm])
    def reads_back(limit: Limit) -> None:
        assert (limit,) == limits_from(str(limit))

    reads_back()


@pytest.mark.proof
@pytest.mark.parametrize("algorithm", Algorithm, ids=name_of)
def test_scaled_time_keeps_the_rate(algorithm: Algorithm) -> None:
    """What the parameters enforce, exactly: within 10^-6 of what was asked for, and in truth within 2^-56."""

    @given(LIMITS[algorithm])
    def keeps_the_rate(limit: Limit) -> None:
        parameters = limit.parameters()
        units_per_ns = Fraction(parameters.multiplier or 2**64, 2**64)
        if parameters.months:
            assert (limit.rate.months, 0) == (parameters.months, parameters.window)
        elif parameters.window:
            assert abs(units_per_ns * limit.rate.period_ns / parameters.window - 1) <= Fraction(1, 2**56)
        else:
            asked = Fraction(limit.rate.count, limit.rate.period_ns)
            assert abs(units_per_ns / parameters.emission_interval / asked - 1) <= Fraction(1, 2**56)

    keeps_the_rate()


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("100/s burst 200", TokenBucket("100/s", burst=200)),
        ("token-bucket 5 per 2 minutes", TokenBucket("5/2min")),
        ("leaky-bucket 10/s capacity 3", LeakyBucket("10/s", capacity=3)),
        ("fixed-window 7/week", FixedWindow("7/week")),
        ("sliding_window 1k/day", SlidingWindow("1000/day")),
        ("sliding-log 3/s", SlidingLog("3/s")),
    ],
)
def test_text_and_object_are_the_same_limit(text: str, limit: Limit) -> None:
    clock = ManualClock(1_700_000_000)
    by_text, by_object = Limiter(text, clock=clock), Limiter(limit, clock=clock)
    for cost in (1, 2, 3, 1, 1, 2):
        assert by_object.acquire("key", cost) == by_text.acquire("key", cost)
        clock.advance(0.25)
