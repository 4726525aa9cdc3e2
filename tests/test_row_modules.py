"""The rows of `verify` that are no tests, where they decide what to run and what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import dev
from proofs import free_threaded, sanitizers
from proofs.rows import NOT_RUN

ROOT = Path(dev.ROOT)


def python(*arguments: str, **environment: object) -> tuple[int, str]:
    """Status and output of this Python here, with a GIL."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHON_GIL": "1"} | {name: str(value) for name, value in environment.items()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


# --- free-threaded


def row(mode: str, cache: Path, **environment: str) -> tuple[int, str]:
    """On a machine with no such Python but the one that is named."""
    given = {"FASTLIMIT_HYPOTHESIS": mode, "XDG_CACHE_HOME": cache, "PATH": cache} | environment
    return python("-m", "proofs.free_threaded", **{free_threaded.VARIABLE: "", **given})


def test_quick_without_such_a_python_says_that_it_did_not_run(tmp_path: Path) -> None:
    status, said = row("quick", tmp_path)
    assert NOT_RUN == status
    [line] = [line for line in said.splitlines() if line.startswith("evidence: ")]
    assert json.loads(line.partition(" ")[2])["free-threaded"].startswith("not run: ")


def test_full_without_one_and_without_means_to_build_one_fails(tmp_path: Path) -> None:
    status, said = row("full", tmp_path)
    assert 1 == status
    assert f"{free_threaded.VARIABLE} can name one" in said


def test_a_named_python_with_a_gil_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "python3.13t"
    program.write_text("#!/bin/sh\necho True\n")
    program.chmod(0o755)
    status, said = row("quick", tmp_path, **{free_threaded.VARIABLE: str(program)})
    assert 1 == status
    assert "must name a Python that runs without a GIL" in said


def test_tests_under_a_gil_fail_as_its_plugin_says() -> None:
    status, said = python(
        "-m", "pytest", "-p", "proofs.free_threaded", "-p", "no:cacheprovider", "--co", "-q"
    )
    assert 1 == status
    assert "the GIL is on, once fastlimit is imported" in said


def test_each_test_that_it_leaves_out_exists() -> None:
    files = {name.partition("::")[0] for name in free_threaded.LEFT_OUT}
    status, said = python("-m", "pytest", "-p", "no:cacheprovider", "--co", "-q", *files)
    assert 0 == status
    collected = said.splitlines()
    assert [] == [
        name for name in free_threaded.LEFT_OUT if not any(one.startswith(name) for one in collected)
    ]


# --- sanitizers

REPORTS = [
    "WARNING: ThreadSanitizer: data race (pid=17)",
    "==17==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x60",
    "==17==ERROR: LeakSanitizer: detected memory leaks",
    "slot.c:1:5: runtime error: signed integer overflow: 1 * 2 cannot be represented in type 'long int'",
]


@pytest.mark.parametrize("report", REPORTS)
def test_a_report_is_counted(report: str) -> None:
    assert 2 == sanitizers.count([f"before\n{report}\nafter\n", report])


def test_what_is_no_report_is_not_counted() -> None:
    harmless = "==17==WARNING: ASan doesn't fully support makecontext/swapcontext functions"
    assert 0 == sanitizers.count(["1 passed in 2 s", harmless, "ThreadSanitizer: reported 2 warnings"])


@pytest.mark.parametrize("sanitizer", sanitizers.SANITIZERS, ids=lambda sanitizer: sanitizer.name)
def test_each_file_that_is_named_exists(sanitizer: sanitizers.Sanitizer) -> None:
    named = {*sanitizer.left_out, *sanitizer.quick}
    assert set() == named - {path.name for path in (ROOT / "tests").glob("test_*.py")}


@pytest.mark.parametrize("sanitizer", sanitizers.SANITIZERS, ids=lambda sanitizer: sanitizer.name)
def test_a_module_that_was_built_without_is_refused(
    sanitizer: sanitizers.Sanitizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = sanitizers.Place(sanitizer)
    place.modules = tmp_path
    (tmp_path / "_core.so").write_bytes(Path(dev.EXTENSION).read_bytes())
    with pytest.raises(sanitizers.Failed, match=r"_core\.so was built without -fsanitize="):
        place.module("_core", to="fastlimit")
