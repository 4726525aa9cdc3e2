"""dev.py: what a machine lacks is named with the command that brings it; only what changed is done again.

Compiler, venv and headers are hidden from a real run of it, by PATH and by modules put before the library's.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import dev
from proofs.rows import NOT_RUN, Proof

SCRIPT = Path(dev.ROOT) / "dev.py"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

# Modules that take something away, for a folder on PYTHONPATH.
NO_VENV = {"ensurepip.py": "raise ImportError('hidden')"}
NO_HEADERS = {
    "sitecustomize.py": "import sysconfig as s; f = s.get_paths\n"
    "s.get_paths = lambda *a, **k: {**f(*a, **k), 'include': '/nowhere'}"
}
OLD_PYTHON = {"sitecustomize.py": "import sys; sys.version_info = (3, 8, 18, 'final', 0)"}


def executable(path: Path, script: str) -> None:
    path.write_text(f"#!{sys.executable} -I\n{script}\n")
    path.chmod(0o755)


class Machine:
    """Has on PATH only the programs put there, and before the library's modules those put there."""

    def __init__(self, folder: Path) -> None:
        self.programs = folder / "bin"
        self.modules = folder / "modules"
        self.venv = folder / "venv"
        self.programs.mkdir()
        self.modules.mkdir()

    def add(self, *programs: str, modules: Mapping[str, str] | None = None) -> None:
        for program in programs:
            executable(self.programs / program, "")
        for name, text in (modules or {}).items():
            (self.modules / name).write_text(text)

    def dev(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Exit status and output of dev.py here."""
        mine = {"PATH": self.programs, "PYTHONPATH": self.modules, "FASTLIMIT_VENV": self.venv, "CC": "cc"}
        outcome = subprocess.run(
            [sys.executable, SCRIPT, *arguments],
            env=os.environ | {name: str(value) for name, value in mine.items()} | environment,
            cwd=self.programs,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return outcome.returncode, outcome.stdout


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


# --- what is missing


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("apt-get", "apt-get install -y build-essential"),
        ("dnf", "dnf install -y gcc"),
        ("brew", "brew install gcc"),
    ],
)
def test_a_missing_compiler_is_named_with_its_command(machine: Machine, manager: str, command: str) -> None:
    machine.add(manager)
    status, output = machine.dev("build")
    assert status == 1
    assert "a C compiler (cc is not on PATH)" in output
    assert output.rstrip().endswith(command)


def test_a_missing_venv_is_named_with_its_command(machine: Machine) -> None:
    machine.add("apt-get", "cc", modules=NO_VENV)
    status, output = machine.dev("build")
    assert status == 1
    assert "Python's venv module (hidden)" in output
    assert output.rstrip().endswith(f"apt-get install -y python{VERSION}-venv")


def test_missing_headers_are_named_with_their_command(machine: Machine) -> None:
    machine.add("apt-get", "cc", modules=NO_HEADERS)
    status, output = machine.dev("build")
    assert status == 1
    assert "Python's headers (there is no /nowhere/Python.h)" in output
    assert output.rstrip().endswith(f"apt-get install -y python{VERSION}-dev")


def test_all_that_is_missing_is_named_at_once(machine: Machine) -> None:
    machine.add("apt-get", modules=NO_VENV | NO_HEADERS)
    status, output = machine.dev("test")
    packages = f"python{VERSION}-venv python{VERSION}-dev build-essential"
    assert status == 1
    assert output.rstrip().endswith(packages)
    assert not machine.venv.exists()


def test_an_unknown_package_manager_gets_no_made_up_command(machine: Machine) -> None:
    status, output = machine.dev("build")
    assert status == 1
    assert "Install it with this system's package manager" in output


def test_nothing_is_missing_here() -> None:
    assert {} == dev.missing(for_venv=True, for_build=True)


def test_pip_without_an_index_says_how_to_name_one(machine: Machine) -> None:
    machine.add("cc")
    offline = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": str(machine.modules)}
    status, output = machine.dev("build", **offline)
    assert status == 1
    assert "PIP_INDEX_URL=URL python3 dev.py build" in output
    assert "PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER python3 dev.py build" in output


def test_a_folder_of_something_else_is_not_cleared(machine: Machine) -> None:
    machine.add("cc")
    machine.venv.mkdir()
    (machine.venv / "thesis.txt").write_text("years of work")
    status, output = machine.dev("build")
    assert status == 1
    assert "holds something else than an environment" in output
    assert "years of work" == (machine.venv / "thesis.txt").read_text()


# --- an old Python


def test_python_3_6_can_read_it() -> None:
    source = SCRIPT.read_text()
    assert ast.parse(source, feature_version=(3, 6))
    with pytest.raises(SyntaxError):
        ast.parse(source + "\n(x := 1)\n", feature_version=(3, 6))


def test_an_old_python_hands_over_to_a_newer_one(machine: Machine) -> None:
    machine.add(modules=OLD_PYTHON)
    executable(machine.programs / "python3.11", "raise SystemExit(127)")  # a version manager's empty name
    executable(machine.programs / "python3.12", "import sys; print('newer', *sys.argv[1:])")
    status, output = machine.dev("test", "-k", "some thing")
    assert 0 == status
    assert output.rstrip().endswith(f"newer {SCRIPT} test -k some thing")


def test_an_old_python_alone_says_what_to_install(machine: Machine) -> None:
    machine.add("apt-get", modules=OLD_PYTHON)
    status, output = machine.dev("test")
    assert status == 1
    assert "fastlimit needs Python 3.11 or newer" in output
    assert output.rstrip().endswith("apt-get install -y python3.11 python3.11-venv python3.11-dev")


# --- only what changed is done again


def small_checkout(root: Path) -> Path:
    (root / "fastlimit" / "_kernel").mkdir(parents=True)
    for name in (
        "pyproject.toml",
        "setup.py",
        "fastlimit/_core.pyx",
        "fastlimit/_kernel/slot.pxd",
        "fastlimit/a.py",
    ):
        (root / name).write_text("# " + name)
    return root


@pytest.mark.parametrize(
    "name", ["pyproject.toml", "setup.py", "fastlimit/_core.pyx", "fastlimit/_kernel/slot.pxd"]
)
def test_a_changed_source_changes_the_digest(tmp_path: Path, name: str) -> None:
    root = small_checkout(tmp_path)
    before = dev.digest(str(root))
    (root / name).write_text("# changed")
    assert before != dev.digest(str(root))


def test_a_new_or_renamed_source_changes_the_digest(tmp_path: Path) -> None:
    root = small_checkout(tmp_path)
    digests = {dev.digest(str(root))}
    (root / "fastlimit" / "new.pxd").touch()
    digests.add(dev.digest(str(root)))
    (root / "fastlimit" / "new.pxd").rename(root / "fastlimit" / "newer.pxd")
    digests.add(dev.digest(str(root)))
    assert 3 == len(digests)


def test_a_date_or_a_python_source_does_not(tmp_path: Path) -> None:
    root = small_checkout(tmp_path)
    before = dev.digest(str(root))
    os.utime(root / "setup.py", (0, 0))
    (root / "fastlimit" / "a.py").write_text("# changed")
    assert before == dev.digest(str(root))


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps that `prepare` would take; its environment is a folder that looks like one."""
    taken: list[str] = []
    python = tmp_path / "python"
    python.touch()
    monkeypatch.setattr(dev, "PYTHON", str(python))
    monkeypatch.setattr(dev, "STAMP", str(tmp_path / "stamp.json"))
    monkeypatch.setattr(dev, "make_environment", lambda: taken.append("environment"))
    monkeypatch.setattr(dev, "install", lambda wanted: taken.append("install"))
    monkeypatch.setattr(dev, "compile_extension", lambda: taken.append("compile"))
    return taken


def steps_of(steps: list[str], *extras: str) -> list[str]:
    steps.clear()
    dev.prepare(*extras)
    return list(steps)


def test_the_second_run_does_nothing(steps: list[str]) -> None:
    assert ["environment", "install", "compile"] == steps_of(steps)
    assert [] == steps_of(steps)


def test_a_change_is_met_by_its_own_step(steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    dev.prepare()
    assert ["install"] == steps_of(steps, "bench")
    assert [] == steps_of(steps)
    monkeypatch.setenv("FASTLIMIT_DEBUG", "1")
    assert ["compile"] == steps_of(steps)
    monkeypatch.setattr(dev, "digest", lambda: "of other sources")
    assert ["compile"] == steps_of(steps)
    monkeypatch.setattr(dev, "EXTENSION", "/nowhere/_core.so")
    assert ["compile"] == steps_of(steps)
    monkeypatch.setattr(dev, "this_python", lambda: "another Python")
    assert ["environment", "install", "compile"] == steps_of(steps)


def test_a_step_that_failed_is_taken_again(steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise SystemExit("does not compile")

    with monkeypatch.context() as broken:
        broken.setattr(dev, "compile_extension", fails)
        with pytest.raises(SystemExit, match="does not compile"):
            dev.prepare()
    assert ["compile"] == steps_of(steps)


# --- lint and verify run all, report all, and fail if one fails


def proof(name: str, code: str) -> Proof:
    return Proof(name, "nothing", ["-c", code])


@pytest.fixture
def verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing to prepare, and the evidence goes elsewhere."""
    monkeypatch.setattr(dev, "prepare", lambda: None)
    monkeypatch.setattr(dev, "PYTHON", sys.executable)
    monkeypatch.setattr(dev, "EVIDENCE", str(tmp_path / "evidence" / "full.json"))
    return tmp_path / "evidence" / "full.json"


PASSES = proof(
    "holds",
    "import os; print('evidence: {\"seen\": 3}'); print(os.environ['FASTLIMIT_HYPOTHESIS'] + ' done')",
)
BREAKS = proof("breaks", "raise SystemExit(3)")
LACKS = proof("lacks", f"raise SystemExit({NOT_RUN})")


def test_verify_passes_if_every_proof_does(
    verify: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dev, "PROOFS", [PASSES])
    assert 0 == dev.verify([])
    assert "quick done" in capsys.readouterr().out
    assert not verify.exists()


def test_verify_goes_on_after_a_failure_and_reports_it(
    verify: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dev, "PROOFS", [BREAKS, PASSES])
    assert 1 == dev.verify(["--full"])
    evidence = json.loads(verify.read_text())
    rows = [(row["name"], row["passed"], row["last_line"], row["evidence"]) for row in evidence["proofs"]]
    assert [("breaks", False, "", []), ("holds", True, "full done", [{"seen": 3}])] == rows
    assert evidence["passed"] is False
    summary = [line.split() for line in capsys.readouterr().out.splitlines()[-2:]]
    assert [("FAILED", "breaks"), ("ok", "holds")] == [(row[0], row[-1]) for row in summary]


def verdicts(output: str, rows: int) -> list[str]:
    """The end of each line of the report, without the time."""
    return [re.sub(r" +[\d.]+ s +", ", ", line) for line in output.splitlines()[-rows:]]


def test_verify_says_what_did_not_run_and_passes_without_it_only_in_quick(
    verify: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dev, "PROOFS", [LACKS, PASSES])
    assert 0 == dev.verify(["--quick"])
    assert ["not run, lacks", "ok, holds"] == verdicts(capsys.readouterr().out, 2)
    assert 1 == dev.verify(["--full"])
    evidence = json.loads(verify.read_text())
    assert [(False, False), (True, True)] == [(row["passed"], row["ran"]) for row in evidence["proofs"]]
    assert evidence["passed"] is False


def test_verify_runs_the_rows_that_are_named_and_keeps_the_results_of_others(
    verify: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev, "PROOFS", [BREAKS, PASSES])
    monkeypatch.setattr(dev, "git", lambda *arguments: arguments[0])
    assert 0 == dev.verify(["--full", "holds"])
    first = json.loads(verify.read_text())
    assert [("holds", "rev-parse", ["status"])] == [
        (row["name"], row["commit"], row["uncommitted"]) for row in first["proofs"]
    ]
    assert first["passed"] is False  # which takes all rows
    assert 1 == dev.verify(["--full", "breaks"])
    both = json.loads(verify.read_text())
    assert (["breaks", "holds"], first["proofs"]) == (
        [row["name"] for row in both["proofs"]],
        both["proofs"][1:],
    )
    monkeypatch.setattr(dev, "PROOFS", [PASSES])
    assert 0 == dev.verify(["--full"])
    assert json.loads(verify.read_text())["passed"] is True
    assert 0 == dev.verify(["holds"])


@pytest.mark.parametrize("arguments", [["--slow"], ["--full", "--slow"], ["holds", "--slow"]])
def test_verify_refuses_what_it_does_not_know(
    arguments: list[str], verify: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev, "PROOFS", [PASSES, BREAKS])
    with pytest.raises(
        SystemExit, match=r"--quick or --full, and any of its rows, not --slow:\nholds, breaks$"
    ):
        dev.verify(arguments)


def test_an_unknown_command_gets_the_list(machine: Machine) -> None:
    status, output = machine.dev("tset")
    assert 2 == status
    assert "python3 dev.py demo" in output
