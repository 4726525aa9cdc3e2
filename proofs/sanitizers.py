"""The engine and the kernel's probe under ThreadSanitizer, AddressSanitizer with LeakSanitizer, and UBSan.

    python -m proofs.sanitizers     in the environment of dev.py, with gcc; FASTLIMIT_HYPOTHESIS=full for all

A copy of the checkout is built for each, beside the other. There its planted bugs run first, which it must
report, then tests, of which it must report nothing. Nothing is suppressed. What a sanitizer does not see:

- Cython's own code is watched, the interpreter is not, nor memory that only it touches. Python holds its GIL
  between threads, so ThreadSanitizer watches what runs without it: the storms of the probe, and batches.
- Coroutines: ThreadSanitizer cannot follow `swapcontext`, and their plays have one thread, so no race.
- The lifecycle's scenes: a thread that its process ends in the middle of a call leaves memory to nobody, as
  a fork does to its child; neither is a leak of the engine's, but it is reported as one.
- Assembly: there is none in the engine but the cycle counter's.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import dev

ROOT = Path(dev.ROOT)
HOME = ROOT / "build" / "sanitizers"
FULL = os.environ.get("FASTLIMIT_HYPOTHESIS") == "full"
GENERATED = shutil.ignore_patterns(".*", "build", "dist", "*.so", "*.egg-info", "__pycache__")

REPORT = re.compile(r".*(?:(?:WARNING|ERROR|FATAL): \w+Sanitizer|runtime error): .*")

# Each test file that is left out, and why; all others run in full, also those to come.
LEFT_OUT = {
    "test_bench.py": "times the engine",
    "test_bench_report.py": "runs no engine",
    "test_dev.py": "runs no engine",
    "test_docs.py": "runs commands, and figures that are timed",
    "test_house.py": "reads sources",
    "test_lifecycle.py": "ends and forks processes amid calls, and bounds them in seconds",
    "test_model.py": "runs Spin",
    "test_packaging.py": "builds and installs an engine of its own",
    "test_row_modules.py": "runs no engine",
    "test_schedules.py": "counts the places of a death, fewer where less is inlined; turns play the same",
    "test_siege.py": "weighs the engine",
    "test_typing.py": "runs mypy",
}
NO_RACE = {
    "test_clock_turns.py": "coroutines of one thread",
    "test_kernel_turns.py": "coroutines of one thread",
    "test_kernel_updates.py": "coroutines of one thread",
    "test_sliding_log.py": "coroutines of one thread",
}
# Controls that break the reference model, which is Python: what they make the engine do, other tests do.
CONTROLS = "not planted"


class Sanitizer(NamedTuple):
    name: str
    switch: str
    """As -fsanitize= and FASTLIMIT_SANITIZE have it."""
    runtime: str
    marks: tuple[bytes, ...]
    """What is in a module that was built with it."""
    left_out: dict[str, str]
    quick: tuple[str, ...]
    quick_names: str
    """Which tests of those files, as pytest's -k has it."""
    planted: dict[str, str | None]
    """Calls of `planted.pyx`, and what must be said of each; None: nothing, as a control of that."""


SANITIZERS = [
    Sanitizer(
        "thread",
        "thread",
        "libtsan.so",
        (b"__tsan_func_entry",),
        LEFT_OUT | NO_RACE,
        ("test_threads.py",),
        "(storm or batches or add_up) and (fixed-window or sliding-log)",
        {"race(True)": "ThreadSanitizer: data race", "race(False)": None},
    ),
    Sanitizer(
        "address",
        "address,undefined",
        "libasan.so",
        (b"__asan_init", b"__ubsan_handle"),
        LEFT_OUT,
        ("test_kernel.py", "test_kernel_table.py", "test_decision.py", "test_limiter.py"),
        "test",
        {
            "overrun(1)": "AddressSanitizer: heap-buffer-overflow",
            "overflow(2**62, 3)": "runtime error: signed integer overflow",
            "leak(1)": "LeakSanitizer: detected memory leaks",
            "race(False)": None,
        },
    ),
]


class Failed(Exception):
    """With what to tell."""


class Place:
    """Where a sanitizer's copy of the checkout is, and what it leaves there."""

    def __init__(self, sanitizer: Sanitizer) -> None:
        self.sanitizer = sanitizer
        self.home = HOME / sanitizer.name
        self.checkout = self.home / "checkout"
        self.modules = self.home / "modules"
        self.said = self.home / "said"

    def environment(self) -> dict[str, str]:
        """For the programs that are watched. The compiler that one of them starts is none of these."""
        runtime = output("gcc", f"-print-file-name={self.sanitizer.runtime}")
        if not os.path.isabs(runtime):
            raise Failed(f"gcc has no {self.sanitizer.runtime}; on Debian, libgcc-12-dev brings it")
        said = f"log_path={self.said / 'report'}"
        return self.building() | {
            "LD_PRELOAD": runtime,
            "CC": "env -u LD_PRELOAD gcc",
            "PYTHONMALLOC": "malloc",
            "TSAN_OPTIONS": f"{said}:exitcode=66:history_size=4:die_after_fork=0",
            "ASAN_OPTIONS": f"{said}:exitcode=67:detect_leaks=1",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        }

    def building(self) -> dict[str, str]:
        return os.environ | {"CC": "gcc", "FASTLIMIT_SANITIZE": self.sanitizer.switch}

    def refresh(self) -> None:
        """The checkout as it is now, with modules that were built from the same sources."""
        shutil.rmtree(self.checkout, ignore_errors=True)
        shutil.copytree(ROOT, self.checkout, ignore=GENERATED)
        self.modules.mkdir(parents=True, exist_ok=True)
        stamp = self.modules / "built from"
        sources = f"{sys.version} {output('gcc', '--version')} {self.digest()}"
        if not stamp.exists() or stamp.read_text() != sources:
            self.build()
            stamp.write_text(sources)
        shutil.copy(*self.module("_core", to="fastlimit"))
        shutil.copy(*self.module("planted", to="proofs/planted"))

    def digest(self) -> str:
        return dev.digest(str(self.checkout)) + (self.checkout / "proofs/planted/planted.pyx").read_text()

    def build(self) -> None:
        call([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], self.checkout, self.building())
        switch = f"-fsanitize={self.sanitizer.switch}"
        flags = {"CFLAGS": f"{switch} -Og -g -mcx16 -fno-wrapv", "LDFLAGS": switch}
        planted = [sys.executable, "-m", "Cython.Build.Cythonize", "-q", "-i", "proofs/planted/planted.pyx"]
        call(planted, self.checkout, self.building() | flags)
        for module in [
            *self.checkout.glob("fastlimit/_core*.so"),
            *self.checkout.glob("proofs/planted/*.so"),
        ]:
            shutil.copy(module, self.modules)

    def module(self, name: str, to: str) -> tuple[Path, Path]:
        [path] = self.modules.glob(f"{name}*.so")
        if not all(mark in path.read_bytes() for mark in self.sanitizer.marks):
            raise Failed(f"{path.name} was built without -fsanitize={self.sanitizer.switch}")
        return path, self.checkout / to

    def watch(self, arguments: list[str], scale: str = "test") -> tuple[int, str, list[str]]:
        """Run Python so that it is watched: status, output, reports."""
        shutil.rmtree(self.said, ignore_errors=True)
        self.said.mkdir()
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.checkout,
            env=self.environment() | {"FASTLIMIT_HYPOTHESIS": scale},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        texts = [done.stdout, *(path.read_text(errors="replace") for path in self.said.iterdir())]
        return done.returncode, done.stdout, [text for text in texts if REPORT.search(text)]


def output(*command: str) -> str:
    return subprocess.check_output(command, text=True).strip()


def call(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def count(texts: list[str]) -> int:
    return sum(len(REPORT.findall(text)) for text in texts)


def plant(place: Place) -> dict[str, int]:
    """Run the planted bugs: how many reports of each."""
    found = {}
    for bug, expected in place.sanitizer.planted.items():
        code = f"import sys; sys.path.insert(0, 'proofs/planted'); import planted; planted.{bug}"
        status, said, reports = place.watch(["-c", code])
        seen = [report for report in reports if expected is not None and expected in report]
        if expected is None and (status or reports):
            raise Failed(f"{bug} is right, but ended with {status}:\n{said}" + "\n".join(reports))
        if expected is not None and not seen:
            raise Failed(f"{bug} went by without a report of '{expected}'; status {status}:\n{said}")
        found[bug] = count(reports)
    return found


def tests_of(place: Place) -> list[str]:
    if not FULL:
        return [f"tests/{name}" for name in place.sanitizer.quick]
    names = {path.name for path in (place.checkout / "tests").glob("test_*.py")}
    return [f"tests/{name}" for name in sorted(names - set(place.sanitizer.left_out))]


def run_tests(place: Place, *selected: str, scale: str = "test") -> int:
    """Run the tests: how many. None may fail, and nothing may be reported."""
    # pytest-benchmark would ask git, whose own leaks are no concern of ours.
    arguments = ["-m", "pytest", "-q", "-p", "no:benchmark", "--capture=sys"]
    arguments += ["-k", CONTROLS if FULL else f"{CONTROLS} and {place.sanitizer.quick_names}"]
    cache = place.home / "cache"
    status, said, reports = place.watch([*arguments, "-o", f"cache_dir={cache}", *selected], scale)
    passed = re.search(r"^(\d+) passed", said, re.MULTILINE)
    if status or reports or passed is None:
        said = "".join(line for line in said.splitlines(True) if not line.startswith("evidence: "))
        raise Failed(f"{count(reports)} reports; pytest ended with {status}:\n{said}" + "\n".join(reports))
    for probe in cache.rglob("probe*.so"):
        if not all(mark in probe.read_bytes() for mark in place.sanitizer.marks):
            raise Failed("the probe was built without the sanitizer")
    return int(passed[1])


def prove(sanitizer: Sanitizer) -> dict[str, Any]:
    place = Place(sanitizer)
    place.refresh()
    planted = plant(place)
    chosen = tests_of(place)
    counts = {"tests": run_tests(place, *chosen)}
    if FULL:
        counts["storms"] = run_tests(place, "-m", "stress", *chosen, scale="quick")
    kept = sorted(sanitizer.left_out) if FULL else f"all but {', '.join(sanitizer.quick)}"
    return {"sanitizer": sanitizer.switch, "planted": planted, **counts, "reports": 0, "left out": kept}


def attempt(sanitizer: Sanitizer) -> tuple[bool, str]:
    try:
        return True, f"evidence: {json.dumps(prove(sanitizer))}"
    except Failed as failed:
        return False, f"{sanitizer.switch}: {failed}"


def main() -> int:
    with ThreadPoolExecutor(len(SANITIZERS)) as pool:
        outcomes = list(pool.map(attempt, SANITIZERS))
    for _, text in outcomes:
        print(text)
    return 0 if all(passed for passed, _ in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
