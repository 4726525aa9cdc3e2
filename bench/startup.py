"""What `import fastlimit` costs over bare Python, and what it brings in from outside the standard library."""

from __future__ import annotations

import subprocess
import sys
from time import perf_counter_ns

from . import targets
from .harness import ROOT, Unavailable, last_line
from .rows import Row, missing_rows, value_row

BARE = "pass"
IMPORT = "import fastlimit"
FOREIGN = """
import sys
before = set(sys.modules)
import fastlimit
known = sys.stdlib_module_names | {"fastlimit"}
print(*sorted(name for name in set(sys.modules) - before
              if name.partition(".")[0] not in known and getattr(sys.modules[name], "__file__", None)))
"""
WANTED = {
    "import fastlimit, over bare Python": targets.IMPORT_MS,
    "modules imported from outside the standard library": targets.FOREIGN_MODULES,
}


def python(code: str) -> tuple[float, str]:
    """Milliseconds that a new interpreter takes for `code`, start and end included, and its output."""
    start = perf_counter_ns()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    elapsed = (perf_counter_ns() - start) / 1e6
    if done.returncode:
        raise Unavailable(last_line(done.stderr))
    return elapsed, done.stdout


def run(rounds: int) -> tuple[list[Row], dict[str, list[float]]]:
    """Rows and samples; the first round, which finds cold files, is not counted."""
    samples: dict[str, list[float]] = {BARE: [], IMPORT: []}
    try:
        foreign = python(FOREIGN)[1].split()
        for code in (BARE, IMPORT):
            python(code)
        for _ in range(rounds):
            for code, values in samples.items():
                values.append(python(code)[0])
    except Unavailable as error:
        return missing_rows(WANTED.items(), error), {}
    over = [loaded - bare for loaded, bare in zip(samples[IMPORT], samples[BARE], strict=True)]
    (first, import_target), (second, foreign_target) = WANTED.items()
    named = f"{second}: {', '.join(foreign)}" if foreign else second
    return [
        value_row(first, "ms", over, import_target),
        value_row(named, "", [float(len(foreign))], foreign_target),
    ], samples
