"""Every entry point under pytest-benchmark, to compare two commits: `pytest bench --benchmark-autosave`, then
`pytest-benchmark compare`. Ratios to floors and peers need `python -m bench`, which interleaves."""

from __future__ import annotations

from typing import Any

import pytest

from .cases import AMPLE, entry_points, handles, several_limits
from .harness import Contender, check, compile_loop

STEPS = 1_000
CONTENDERS = (
    [contender for algorithm in AMPLE for contender in entry_points(algorithm)]
    + several_limits()
    + handles()[0]
)


@pytest.mark.parametrize("contender", CONTENDERS, ids=[contender.name for contender in CONTENDERS])
def test_entry_point(benchmark: Any, contender: Contender) -> None:
    """The figure is for 1,000 statements, or one where a statement makes many decisions itself."""
    steps = STEPS if contender.calls < STEPS else 1
    loop = compile_loop(contender.statement, contender.names)
    loop(range(4))
    check(contender)
    elapsed = benchmark.pedantic(loop, setup=lambda: ((range(steps),), {}), rounds=100)
    assert elapsed > 0
    check(contender)
