"""The whole suite, and the storms once more, on a CPython without a GIL.

    python -m proofs.free_threaded      FASTLIMIT_FREE_THREADED_PYTHON names the interpreter, if there is one

Where there is none, full builds CPython 3.13 from Debian's source package, which needs Debian and root and
takes two cores four minutes; it is kept outside of the checkout. In quick the proof is then not run, and says
so. In the suite this module is a plugin of pytest: the GIL, which a module that does not do without would
have switched on, must be off once fastlimit is imported and still when all tests have ended.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import dev
from proofs.rows import NOT_RUN

VARIABLE = "FASTLIMIT_FREE_THREADED_PYTHON"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastlimit" / "python3.13t"
NAMES = ("python3.14t", "python3.13t", str(CACHE / "bin" / "python3"))
VENV = ".venv-free-threaded"
FULL = os.environ.get("FASTLIMIT_HYPOTHESIS") == "full"

# What of Debian's packages CPython is built from, with what pip, Hypothesis and the tests import of it.
PACKAGES = [
    "build-essential",
    "ca-certificates",
    "dpkg-dev",
    "libbz2-dev",
    "libffi-dev",
    "liblzma-dev",
    "libsqlite3-dev",
    "libssl-dev",
    "xz-utils",
    "zlib1g-dev",
]
RELEASE = "trixie"
SOURCE = "python3.13"

# What quick runs: of the storms, those of two kinds of limit.
QUICK = ["tests/test_threads.py", "tests/test_limiter.py", "tests/test_decision.py"]
QUICK += ["-k", "not test_threads or fixed-window or sliding-log"]

# What full does not run, and why.
LEFT_OUT = {
    "tests/test_typing.py": "of mypy, pip finds only an old one without a compiler",
    "tests/test_lifecycle.py::test_a_scene[signals.finalizers_that_update]": (
        "counts on a collection at each allocation, which that Python does not make"
    ),
    "tests/test_lifecycle.py::test_a_scene[endings.del_after_all_modules]": (
        "a finding: with the names of fastlimit's modules None, update raises TypeError; decisions go on"
    ),
}


# --- in the tests' process


def gil_is_on() -> bool:
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


def pytest_sessionstart() -> None:
    import fastlimit  # noqa: F401

    if gil_is_on():
        pytest.exit("the GIL is on, once fastlimit is imported", returncode=1)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if gil_is_on():
        print("\nthe GIL is on, now that the tests have ended")
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    state = "on" if gil_is_on() else "off"
    terminalreporter.write_line(f"after the tests the GIL is {state}, in Python {sys.version.split()[0]}")


# --- the interpreter


def starts_without_gil(path: str) -> bool:
    code = "import sys; print(getattr(sys, '_is_gil_enabled', lambda: True)())"
    done = subprocess.run([path, "-c", code], capture_output=True, text=True, env=environment(), check=False)
    return done.stdout.strip() == "False"


def environment(**more: str) -> dict[str, str]:
    """PYTHON_GIL=0 would keep off what a module switches on."""
    return {name: value for name, value in os.environ.items() if name != "PYTHON_GIL"} | more


def find() -> str | None:
    named = os.environ.get(VARIABLE)
    if named and not (shutil.which(named) and starts_without_gil(named)):
        raise SystemExit(f"{VARIABLE} must name a Python that runs without a GIL, and {named!r} does not")
    candidates = [named] if named else NAMES
    paths = (shutil.which(candidate) for candidate in candidates)
    return next((path for path in paths if path is not None and starts_without_gil(path)), None)


def step(what: str, command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{what} failed:\n{done.stdout[-4000:]}\n{VARIABLE} can name a Python that is there")
    return done.stdout


def sources(folder: Path) -> Path:
    """CPython's, from the machine's own Debian mirror."""
    step("apt-get update", ["apt-get", "-qq", "update"], folder)
    quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    step("installing what CPython needs", [*quiet, "install", "-y", *PACKAGES], folder)
    targets = step("apt-get indextargets", ["apt-get", "indextargets", "--format", "$(REPO_URI)"], folder)
    mirrors = [line for line in targets.splitlines() if re.search(r"/debian/?$", line)]
    if not mirrors:
        raise SystemExit(f"this machine names no Debian mirror; {VARIABLE} can name a Python that is there")
    (folder / "lists" / "partial").mkdir(parents=True)
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (folder / "sources.list").write_text(f"deb-src [signed-by={keyring}] {mirrors[0]} {RELEASE} main\n")
    options = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": folder / "lists",
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-qq", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    step("reading the mirror's list of sources", [*apt, "update"], folder)
    step(f"fetching {SOURCE}", [*apt, "source", "--download-only", SOURCE], folder)
    [archive] = folder.glob(f"{SOURCE}_*.orig.tar.xz")
    step("unpacking", ["tar", "xf", archive.name], folder)
    [unpacked] = folder.glob("Python-3*")
    return unpacked


def build() -> str:
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise SystemExit(f"to build a free-threaded Python takes Debian and root; {VARIABLE} can name one")
    print("building a free-threaded Python, some minutes", flush=True)
    with tempfile.TemporaryDirectory() as name:
        unpacked = sources(Path(name))
        configure = ["./configure", "--disable-gil", f"--prefix={CACHE}", "--with-ensurepip=install"]
        step("configure", configure, unpacked)
        step("make", ["make", f"-j{os.cpu_count()}"], unpacked)
        step("make install", ["make", "install"], unpacked)
    path = str(CACHE / "bin" / "python3")
    step("the first start", [path, "-c", "import bz2, ctypes, lzma, sqlite3, ssl, zlib"], Path.cwd())
    if not starts_without_gil(path):
        raise SystemExit(f"{path} was built, and has a GIL")
    return path


# --- the tests


def suite(python: str, *arguments: str, **variables: str) -> tuple[int, str]:
    """Run tests in an environment of that Python's own: status, output.

    Only from wheels, since what pip would else compile for a Python that few publish for needs more than C.
    """
    variables = {"FASTLIMIT_VENV": VENV, "PIP_ONLY_BINARY": ":all:", **variables}
    command = [python, "dev.py", "test", "-q", "-p", "proofs.free_threaded", *arguments]
    said = []
    with subprocess.Popen(
        command,
        cwd=dev.ROOT,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout or ():
            said.append(line)
            print(line.replace("evidence: ", "counted: ", 1), end="", flush=True)
    return process.returncode, "".join(said)


def passed(python: str, *arguments: str, scale: str) -> int:
    status, said = suite(python, *arguments, FASTLIMIT_HYPOTHESIS=scale)
    summary = re.search(r"^(\d+) passed", said, re.MULTILINE)
    if status or summary is None or "after the tests the GIL is off" not in said:
        raise SystemExit(f"failed without a GIL; pytest ended with {status}")
    return int(summary[1])


def control(python: str) -> str:
    """With the GIL forced on, the same run must fail, and say why."""
    status, said = suite(python, "tests/test_rates.py", FASTLIMIT_HYPOTHESIS="test", PYTHON_GIL="1")
    if status == 0 or "the GIL is on" not in said:
        raise SystemExit(f"a GIL that was forced on went by; pytest ended with {status}")
    return "the GIL is on"


def main() -> int:
    python = find()
    if python is None and not FULL:
        said = f"not run: no free-threaded Python here; {VARIABLE} names one, and --full builds one"
        print("evidence: " + json.dumps({"free-threaded": said}))
        return NOT_RUN
    python = python or build()
    counts: dict[str, str | int] = {"forced on": control(python)}
    if FULL:
        deselected = [f"--deselect={name}" for name in LEFT_OUT]
        counts |= {
            "tests": passed(python, *deselected, scale="test"),
            "storms": passed(python, "-m", "stress", scale="quick"),
        }
    else:
        counts |= {"tests": passed(python, *QUICK, scale="test")}
    left_out = {"left out": sorted(LEFT_OUT)} if FULL else {"only": QUICK}
    version = subprocess.check_output([python, "-c", "import sys; print(sys.version)"], text=True).strip()
    print("evidence: " + json.dumps({"free-threaded": version, "GIL": "off", **counts, **left_out}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
