"""How much Hypothesis tries, and the guard that the tests meet the module built from this checkout."""

from __future__ import annotations

import importlib.machinery
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings
from scale import MODE, SEED

import dev

# By FASTLIMIT_HYPOTHESIS. Only the full run draws anew each time; what it finds, its blob repeats.
for profile, examples in {"test": 100, "quick": 1_000, "full": 20_000}.items():
    settings.register_profile(
        f"fastlimit-{profile}",
        max_examples=examples,
        derandomize=profile != "full",
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile(f"fastlimit-{MODE}")


def complaint(module: str, stamp: Path, root: Path) -> str | None:
    """Why `module`, the file that `fastlimit._core` came from, is not what `root` holds; None if it is."""
    path = Path(module)
    if path.parent != root / "fastlimit" or not path.name.endswith(
        tuple(importlib.machinery.EXTENSION_SUFFIXES)
    ):
        return f"fastlimit._core is {module}, not the extension built in {root / 'fastlimit'}"
    if stamp.exists() and json.loads(stamp.read_text())["built_from"]["sources"] != dev.digest(str(root)):
        return "a source changed since fastlimit._core was compiled"
    return None


def pytest_sessionstart() -> None:
    import fastlimit._core

    stamp = Path(sys.prefix) / Path(dev.STAMP).name
    reason = complaint(fastlimit._core.__file__, stamp, Path(dev.ROOT))
    if reason is not None:
        raise pytest.UsageError(f"{reason}: run `python3 dev.py test`")


@pytest.fixture(scope="session")
def probe(pytestconfig: pytest.Config) -> ModuleType:
    """The kernel laid open to its tests: see kernel_probe.py."""
    import kernel_probe

    assert pytestconfig.cache is not None
    return kernel_probe.load(pytestconfig.cache.mkdir("probe"))


# --- what proofs provoked and counted

EVIDENCE = pytest.StashKey[list[str]]()


@pytest.fixture
def evidence(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Takes counts by name; they are printed with the test's name and the seed when all tests have ended."""
    lines = request.config.stash.setdefault(EVIDENCE, [])

    def keep(**counts: object) -> None:
        lines.append(json.dumps({"proof": request.node.name, "seed": SEED, **counts}))

    return keep


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in terminalreporter.config.stash.get(EVIDENCE, []):
        terminalreporter.write_line(f"evidence: {line}")
