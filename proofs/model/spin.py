"""Spin: getting it, making a verifier of a model, running that, and reading what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent

MEMORY_MB = 6000
MOST_STEPS = 4_000_000
COMPILE = ["-O2", "-w", "-DSAFETY", "-DCOLLAPSE", "-DVECTORSZ=512", f"-DMEMLIM={MEMORY_MB}"]

# What Spin prints when it has not seen everything, or has not started to.
CUT_SHORT = {
    "max search depth too small": "cut short: deeper than it may search",
    "Search not completed": "cut short",
    "reached -DMEMLIM bound": "cut short: out of memory",
    "out of memory": "cut short: out of memory",
    "hash conflicts: not exhaustive": "cut short",
    "bit statespace": "not exhaustive: states were hashed, not kept",
    "hash-compact": "not exhaustive: states were hashed, not kept",
    "VECTORSZ is too small": "a state does not fit",
}


class Search(NamedTuple):
    """One run of a verifier: what it found, and why it proves nothing if it was not exhaustive."""

    violation: str
    incomplete: str
    errors: int
    states: int
    depth: int
    seconds: float = 0.0


def number(pattern: str, text: str) -> int:
    """From 10^8 on, Spin writes numbers as 1.0843e+08."""
    found = re.search(pattern, text)
    return int(float(found.group(1))) if found else -1


def read_search(text: str, seconds: float = 0.0) -> Search:
    """What a verifier printed. A count that is missing is -1, and makes the search incomplete."""
    violation = re.search(r"pan:\d+: (.*?) \(at depth \d+\)", text)
    errors = number(r"errors: (\d+)", text)
    states = number(r"([\d.e+]+) states, stored", text)
    depth = number(r"depth reached (\d+)", text)
    reasons = [reason for phrase, reason in CUT_SHORT.items() if phrase in text]
    # Said of every search that stopped at an error, too.
    if errors > 0 and reasons == ["cut short"]:
        reasons = []
    if min(errors, states, depth) < 0:
        reasons.append("no result")
    return Search(violation.group(1) if violation else "", ", ".join(reasons), errors, states, depth, seconds)


def require_tools() -> None:
    """Spin and a C compiler, installed if that needs nobody's consent."""
    if shutil.which("gcc") is None:
        raise SystemExit("the model needs gcc on PATH: install it with this system's package manager")
    if shutil.which("spin") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        subprocess.run(["apt-get", "install", "-y", "-qq", "spin"], check=False)
    if shutil.which("spin") is None:
        raise SystemExit("the model needs Spin (spinroot.com) on PATH: sudo apt-get install -y spin")


def wrapper(model: str, defines: dict[str, str]) -> str:
    """The source that Spin is given: a configuration, then the model."""
    lines = [f"#define {name} {value}".rstrip() for name, value in defines.items()]
    return "\n".join([*lines, f'#include "{FOLDER / model}"', ""])


def said(command: list[str], folder: Path) -> tuple[bool, str]:
    outcome = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return outcome.returncode == 0, outcome.stdout


def search(model: str, defines: dict[str, str], folder: Path) -> Search:
    """Every state of one configuration, or as far as its first error."""
    (folder / "run.pml").write_text(wrapper(model, defines))
    for command in (["spin", "-a", "run.pml"], ["gcc", *COMPILE, "-o", "pan", "pan.c"]):
        worked, text = said(command, folder)
        if not worked or not (folder / "pan.c").exists():
            return Search("", f"{command[0]}: {text.strip()[-300:]}", -1, -1, -1)
    started = time.monotonic()
    _, text = said(["./pan", f"-m{MOST_STEPS}"], folder)
    return read_search(text, time.monotonic() - started)
