"""A line of the table: one measured figure, what it is compared with, and its target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .harness import Samples, Summary, Unavailable, summarize
from .targets import Target

NOT_INSTALLED = "not installed"


@dataclass(frozen=True)
class Row:
    """One figure (`value`, in `unit`), its ratio to `against` where it is compared; or why it is missing."""

    what: str
    unit: str = "ns"
    value: Summary | None = None
    ratio: Summary | None = None
    against: str = ""
    target: Target | None = None
    missing: str = ""

    @property
    def judged(self) -> Summary | None:
        """The figure that the target bounds."""
        return self.value if self.target is not None and self.target.on == "value" else self.ratio

    @property
    def verdict(self) -> str:
        """`pass`, `missed`, `not run`, `not installed`, or empty where there is no target."""
        if self.missing:
            return NOT_INSTALLED if self.missing.startswith(NOT_INSTALLED) else "not run"
        if self.target is None:
            return ""
        if self.judged is None:
            return "not run"
        return "pass" if self.target.reached(self.judged) else "missed"


def timed_row(
    samples: Samples, what: str, name: str, base: str = "", target: Target | None = None, missing: str = ""
) -> Row:
    """The row of contender `name`, compared with contender `base` if one is named and was measured."""
    if name not in samples.ns:
        return Row(what, against=base, target=target, missing=missing or "not measured")
    value = summarize(samples.ns[name])
    if not base:
        return Row(what, value=value, target=target)
    if base not in samples.ns:
        return Row(what, value=value, against=base, target=target, missing=missing or f"{base} not measured")
    return Row(what, value=value, ratio=summarize(samples.ratios(name, base)), against=base, target=target)


def value_row(what: str, unit: str, values: Sequence[float], target: Target | None = None) -> Row:
    """A row without comparison."""
    return Row(what, unit, summarize(values), target=target)


def missing_rows(wanted: Iterable[tuple[str, Target | None]], reason: Unavailable | str) -> list[Row]:
    """Rows that could not be measured: they stay in the table, with their targets."""
    return [Row(what, target=target, missing=str(reason)) for what, target in wanted]


def targets_of(rows: Iterable[Row]) -> tuple[int, int, int]:
    """How many targets were reached, missed, and not run."""
    verdicts = [row.verdict for row in rows if row.target is not None]
    reached, missed = verdicts.count("pass"), verdicts.count("missed")
    return reached, missed, len(verdicts) - reached - missed
