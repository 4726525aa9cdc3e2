"""The types that the package declares, as mypy sees them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RIGHT = ROOT / "tests" / "typing" / "right_uses.py"
WRONG = ROOT / "tests" / "typing" / "wrong_uses.py"


def mypy(*files: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", *map(str, files)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def test_right_uses_pass_and_every_wrong_one_is_refused() -> None:
    checked = mypy(RIGHT, WRONG)
    assert ("", "", 0) == (checked.stdout, checked.stderr, checked.returncode)


@pytest.mark.parametrize(
    ("planted", "code"),
    [
        ("assert_type(Limiter('1/s').allow('a'), Decision)", "assert-type"),
        ("Limiter('1/s').acquire('a')  # type: ignore[arg-type]", "unused-ignore"),
    ],
)
def test_a_planted_disagreement_is_found(tmp_path: Path, planted: str, code: str) -> None:
    source = tmp_path / "planted.py"
    imports = (
        "from typing import assert_type\nfrom fastlimit import Decision, Limiter\nassert_type\nDecision\n"
    )
    source.write_text(imports + planted + "\n")
    checked = mypy(source)
    assert 1 == checked.returncode
    assert [f"[{code}]"] == [
        line.rpartition("  ")[2] for line in checked.stdout.splitlines() if "error:" in line
    ]
