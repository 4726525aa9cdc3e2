"""Traffic as a gateway sees it, generated: popular and rare clients, bursts, and one client that abuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from random import Random

SECOND = 10**9
ABUSER = "192.0.2.66"
START_NS = 1_767_258_000 * SECOND  # 2026-01-01 09:00 UTC; any full minute would do


@dataclass(frozen=True)
class Traffic:
    """Requests over `seconds`, the same for the same seed: of `clients`, `rate` a second in all.

    Popularity follows Zipf's law with this `exponent`. In each of `bursts`, some client sends 10 to 1,000
    requests (Pareto, 0.9) within a few seconds. The abuser sends `pulse` requests around each full minute,
    half of them before it: what a counter that starts anew each minute lets through twice.
    """

    seed: int = 1
    seconds: int = 600
    clients: int = 2_000
    exponent: float = 1.1
    rate: float = 45.0
    bursts: int = 300
    pulse: int = 1_800

    def requests(self) -> list[tuple[int, str]]:
        """(nanoseconds since 1970, client) in order of time."""
        random = Random(self.seed)
        names = [f"198.51.{100 + number // 250}.{1 + number % 250}" for number in range(self.clients)]
        rows = [*self._steady(random, names), *self._bursts(random, names), *self._pulses(random)]
        return sorted((START_NS + int(at * SECOND), client) for at, client in rows if 0 <= at < self.seconds)

    def _steady(self, random: Random, names: list[str]) -> Iterator[tuple[float, str]]:
        popularity = list(accumulate(rank**-self.exponent for rank in range(1, self.clients + 1)))
        count = int(self.seconds * self.rate)
        for client in random.choices(names, cum_weights=popularity, k=count):
            yield random.uniform(0, self.seconds), client

    def _bursts(self, random: Random, names: list[str]) -> Iterator[tuple[float, str]]:
        for _ in range(self.bursts):
            client, start = random.choice(names), random.uniform(0, self.seconds)
            size = min(int(10 * random.paretovariate(0.9)), 1_000)
            for _ in range(size):
                yield start + random.uniform(0, 1 + size / 50), client

    def _pulses(self, random: Random) -> Iterator[tuple[float, str]]:
        for minute in range(self.seconds // 5, self.seconds + 1, 60):
            for _ in range(self.pulse):
                yield minute + random.uniform(-10, 10), ABUSER
