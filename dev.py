#!/usr/bin/env python3
"""The project's commands. All they need is a Python from 3.11 on, with venv and headers, and a C compiler.

    python3 dev.py demo [--log FILE ...]      the engine on an access log, or on traffic that it makes up
    python3 dev.py test [pytest arguments]    the tests
    python3 dev.py bench [arguments]          the engine beside its targets and its peers
    python3 dev.py lint                       style, types, stubs and import rules
    python3 dev.py verify [--quick | --full] [ROW ...]
                                              the proofs, or some; --full leaves its results in docs/evidence/
    python3 dev.py build                      what the others do first: make .venv, install, compile

Only what changed is done again. FASTLIMIT_VENV names another environment than .venv, to keep one for each of
several Pythons; setup.py describes the switches for debug, trace and sanitizer builds.
"""

# Standard library only, and nothing that Python 3.6 cannot read: an old one shall say what it lacks.

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import time
from typing import Any, Dict, List, NamedTuple, NoReturn, Optional, Sequence

from proofs.rows import NOT_RUN, PROOFS

OLDEST = (3, 11)
NEWEST = (3, 14)
ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, os.environ.get("FASTLIMIT_VENV", ".venv"))
PYTHON = os.path.join(VENV, "bin", "python")
STAMP = os.path.join(VENV, "fastlimit.json")
EVIDENCE = os.path.join(ROOT, "docs", "evidence", "verify-full.json")
EXTENSION = os.path.join(ROOT, "fastlimit", "_core" + (sysconfig.get_config_var("EXT_SUFFIX") or ".so"))
SWITCHES = ("FASTLIMIT_DEBUG", "FASTLIMIT_TRACE", "FASTLIMIT_SANITIZE", "CC", "CFLAGS", "LDFLAGS")

# fmt: off
INSTALL = {
    "apt-get": "{sudo}apt-get update && {sudo}apt-get install -y",
    "dnf": "{sudo}dnf install -y",
    "brew": "brew install",
}
PACKAGES = {
    "apt-get": {"python": "python{v} python{v}-venv python{v}-dev", "venv": "python{v}-venv",
                "headers": "python{v}-dev", "compiler": "build-essential"},
    "dnf": {"python": "python{v} python{v}-devel", "venv": "python3-libs",
            "headers": "python3-devel", "compiler": "gcc"},
    "brew": {"python": "python@{v}", "venv": "python@{v}",
             "headers": "python@{v}", "compiler": "gcc"},
}
# fmt: on


def say(text: str) -> None:
    print("dev.py: " + text, flush=True)


def fail(*lines: str) -> NoReturn:
    raise SystemExit("dev.py: " + "\n".join(lines))


# --- what the machine must have


def newer_python() -> Optional[str]:
    """A Python on PATH that is new enough, and starts (a version manager's may be a name only)."""
    for minor in range(OLDEST[1], NEWEST[1] + 1):
        candidate = shutil.which("python3.%d" % minor)
        if candidate and subprocess.call([candidate, "-c", ""], stderr=subprocess.DEVNULL) == 0:
            return candidate
    return None


def hand_over(arguments: Sequence[str]) -> NoReturn:
    """Go on with a newer Python in this one's place."""
    newer = newer_python()
    if newer is None:
        oldest = "%d.%d" % OLDEST
        fail(
            "fastlimit needs Python %s or newer; this is %s," % (oldest, platform.python_version()),
            "and none of python%s to python%d.%d on PATH works." % (oldest, NEWEST[0], NEWEST[1]),
            *how_to_get(["python"], oldest),
        )
    os.execv(newer, [newer, os.path.abspath(__file__), *arguments])


def how_to_get(kinds: Sequence[str], version: str) -> List[str]:
    for manager, install in INSTALL.items():
        if shutil.which(manager):
            packages = " ".join(PACKAGES[manager][kind] for kind in kinds)
            sudo = "" if os.geteuid() == 0 else "sudo "
            return ["This brings it:", "", "    " + (install + " " + packages).format(sudo=sudo, v=version)]
    return ["Install it with this system's package manager, then repeat the command."]


def missing(for_venv: bool, for_build: bool) -> Dict[str, str]:
    """What this machine lacks, by kind, each with the reason for saying so."""
    lacks = {}
    if for_venv:
        try:
            import ensurepip  # noqa: F401
            import venv  # noqa: F401
        except ImportError as error:
            lacks["venv"] = "Python's venv module (%s)" % error
    if for_build:
        header = os.path.join(sysconfig.get_paths()["include"], "Python.h")
        if not os.path.exists(header):
            lacks["headers"] = "Python's headers (there is no %s)" % header
        compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
        if not shutil.which(compiler):
            lacks["compiler"] = "a C compiler (%s is not on PATH)" % compiler
    return lacks


def require(for_venv: bool, for_build: bool) -> None:
    lacks = missing(for_venv, for_build)
    if lacks:
        version = "%d.%d" % sys.version_info[:2]
        heading = "to build fastlimit with Python %s, this machine lacks" % version
        fail(heading, *("  - " + reason for reason in lacks.values()), *how_to_get(list(lacks), version))


# --- the environment, and the stamp that tells what it was made from


def this_python() -> str:
    return "%s in %s" % (sys.version, sys.base_prefix)


def read_stamp() -> Dict[str, Any]:
    """Empty if there is no environment, or another Python made it."""
    try:
        with open(STAMP) as file:
            stamp = json.load(file)  # type: Dict[str, Any]
    except (OSError, ValueError):
        return {}
    return stamp if stamp.get("python") == this_python() and os.path.exists(PYTHON) else {}


def write_stamp(stamp: Dict[str, Any]) -> None:
    with open(STAMP, "w") as file:
        json.dump(stamp, file, indent=1, sort_keys=True)


def cython_sources(top: str) -> List[str]:
    paths = (os.path.join(folder, name) for folder, _, names in os.walk(top) for name in names)
    return sorted(path for path in paths if path.endswith((".pyx", ".pxd", ".pxi")))


def sources(root: str = ROOT) -> List[str]:
    """The files that the compiled module is made from."""
    settings = [os.path.join(root, name) for name in ("pyproject.toml", "setup.py")]
    return settings + cython_sources(os.path.join(root, "fastlimit"))


def digest(root: str = ROOT) -> str:
    """Of what is in the sources, and not of their dates, which a checkout changes for nothing."""
    whole = hashlib.sha256()
    for path in sources(root):
        with open(path, "rb") as file:
            content = file.read()
        whole.update(("%s %d\n" % (os.path.relpath(path, root), len(content))).encode())
        whole.update(content)
    return whole.hexdigest()


def requirements(*extras: str) -> List[str]:
    import tomllib

    with open(os.path.join(ROOT, "pyproject.toml"), "rb") as file:
        declared = tomllib.load(file)
    wanted = set(declared["build-system"]["requires"])
    for extra in extras:
        wanted.update(declared["project"]["optional-dependencies"][extra])
    return sorted(wanted)


def prepare(*extras: str) -> None:
    """Bring the environment up to this checkout, by whichever of its three steps something changed for."""
    stamp = read_stamp()
    wanted = requirements("cli", "dev", *extras)
    built_from = {"sources": digest(), "switches": {name: os.environ.get(name, "") for name in SWITCHES}}
    stale = stamp.get("built_from") != built_from or not os.path.exists(EXTENSION)
    require(for_venv=not stamp, for_build=stale)
    if not stamp:
        make_environment()
        stamp = {"python": this_python(), "requirements": []}
    if not set(wanted) <= set(stamp["requirements"]):
        install(wanted)
        stamp["requirements"] = wanted
        write_stamp(stamp)
    if stale:
        compile_extension()
        stamp["built_from"] = built_from
        write_stamp(stamp)


def make_environment() -> None:
    if os.path.isdir(VENV) and os.listdir(VENV) and not os.path.exists(os.path.join(VENV, "pyvenv.cfg")):
        fail("%s holds something else than an environment; FASTLIMIT_VENV can name another place." % VENV)
    say("making %s with Python %s" % (VENV, platform.python_version()))
    base = getattr(sys, "_base_executable", sys.executable)
    if subprocess.call([base, "-m", "venv", "--clear", VENV]) != 0:
        fail("%s could not be made (the venv module's words are above)." % VENV)


def pip_install(*arguments: str) -> bool:
    only_errors = ["-qq", "--disable-pip-version-check"]
    return subprocess.call([PYTHON, "-m", "pip", "install", *only_errors, *arguments], cwd=ROOT) == 0


def install(wanted: Sequence[str]) -> None:
    say("installing " + ", ".join(wanted))
    if not pip_install(*wanted):
        again = "python3 dev.py " + " ".join(sys.argv[1:])
        fail(
            "pip could not install what fastlimit is built and tested with (its words are above).",
            "If the package index is out of reach, name a mirror, or a folder that holds the packages:",
            "",
            "    PIP_INDEX_URL=URL " + again,
            "    PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER " + again,
        )


def compile_extension() -> None:
    say("compiling fastlimit")
    if not pip_install("--no-build-isolation", "--no-deps", "--editable", "."):
        fail("fastlimit did not compile (the compiler's words are above).")


# --- the commands


def activated(**settings: str) -> Dict[str, str]:
    """The variables of a shell in which the environment is active: tools find each other by PATH."""
    path = os.path.join(VENV, "bin") + os.pathsep + os.environ.get("PATH", os.defpath)
    return dict(os.environ, PATH=path, VIRTUAL_ENV=VENV, **settings)


def run(command: Sequence[str], folder: str = ROOT) -> int:
    return subprocess.call(command, cwd=folder, env=activated())


def demo(arguments: Sequence[str]) -> int:
    prepare()
    return run([PYTHON, "-m", "fastlimit.cli", "demo", *arguments], os.getcwd())


def test(arguments: Sequence[str]) -> int:
    prepare()
    return run([PYTHON, "-m", "pytest", *arguments])


def bench(arguments: Sequence[str]) -> int:
    prepare("bench")
    return run([PYTHON, "-m", "bench", *arguments])


def build(arguments: Sequence[str]) -> int:
    prepare()
    say("fastlimit is built for Python %s in %s" % (platform.python_version(), VENV))
    return 0


def lint(arguments: Sequence[str]) -> int:
    prepare()
    code = ["fastlimit", "tests", "bench", "proofs", "examples", "dev.py"]
    python_code = [name for name in code if os.path.exists(os.path.join(ROOT, name))]
    cython_code = [path for name in code for path in cython_sources(os.path.join(ROOT, name))]
    allowed = ["--allowlist", os.path.join("tests", "stubtest.txt"), "--ignore-unused-allowlist"]
    checks = {
        "ruff check": [PYTHON, "-m", "ruff", "check", "."],
        "ruff format": [PYTHON, "-m", "ruff", "format", "--check", "."],
        "mypy": [PYTHON, "-m", "mypy", *python_code],
        "stubtest": [PYTHON, "-m", "mypy.stubtest", "fastlimit._core", *allowed],
        "cython-lint": [os.path.join(VENV, "bin", "cython-lint"), *cython_code],
        "house rules": [PYTHON, "-m", "pytest", "-q", os.path.join("tests", "test_house.py")],
    }
    return report([attempt(name, command, activated()) for name, command in checks.items()])


def verify(arguments: Sequence[str]) -> int:
    full = arguments[:1] == ["--full"]
    wanted = arguments[1:] if full or arguments[:1] == ["--quick"] else arguments
    rows = [proof.name for proof in PROOFS]
    unknown = [name for name in wanted if name not in rows]
    if unknown:
        fail("verify takes --quick or --full, and any of its rows, not %s:" % unknown[0], ", ".join(rows))
    prepare()
    environment = activated(FASTLIMIT_HYPOTHESIS="full" if full else "quick")
    outcomes = []
    for proof in PROOFS:
        if not wanted or proof.name in wanted:
            outcomes.append(attempt(proof.name, [PYTHON, *proof.arguments], environment, proof.shows))
            if full:
                keep_evidence(EVIDENCE, outcomes[-1])
    return report(outcomes, excused=not full)


class Outcome(NamedTuple):
    name: str
    shows: str
    command: str
    passed: bool
    ran: bool
    seconds: float
    last_line: str
    evidence: List[Dict[str, Any]]


def attempt(name: str, command: Sequence[str], environment: Dict[str, str], shows: str = "") -> Outcome:
    """Run one of several commands under a header, and keep how it ended."""
    print("\n== %s%s" % (name, shows and ": " + shows), flush=True)
    started = time.monotonic()
    last_line = ""
    evidence = []
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            last_line = line.strip() or last_line
            if line.startswith("evidence: "):
                evidence.append(json.loads(line.split(" ", 1)[1]))
    seconds = round(time.monotonic() - started, 1)
    readable = " ".join(command).replace(os.path.join(VENV, "bin", ""), "")
    passed, ran = process.returncode == 0, process.returncode != NOT_RUN
    return Outcome(name, shows, readable, passed, ran, seconds, last_line, evidence)


def report(outcomes: Sequence[Outcome], excused: bool = False) -> int:
    """The exit status. `excused`: what did not run, and said so, fails nothing; it is never called passed."""
    print()
    for outcome in outcomes:
        verdict = "ok" if outcome.passed else "FAILED" if outcome.ran else "not run"
        print("%-7s %6.1f s  %s" % (verdict, outcome.seconds, outcome.name))
    return 0 if all(outcome.passed or (excused and not outcome.ran) for outcome in outcomes) else 1


def keep_evidence(path: str, outcome: Outcome) -> None:
    """Put one row's result in place of its last one; those of other rows stay, each with its own commit."""
    kept = {}
    if os.path.exists(path):
        with open(path) as file:
            kept = {row["name"]: row for row in json.load(file)["proofs"]}
    kept[outcome.name] = dict(
        outcome._asdict(),
        commit=git("rev-parse", "HEAD"),
        uncommitted=git("status", "--porcelain").splitlines(),
        finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        python=platform.python_version(),
        platform=platform.platform(),
        processors=os.cpu_count(),
    )
    rows = [kept[proof.name] for proof in PROOFS if proof.name in kept]
    passed = len(rows) == len(PROOFS) and all(row["passed"] for row in rows)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        json.dump({"passed": passed, "proofs": rows}, file, indent=2)
        file.write("\n")


def git(*arguments: str) -> str:
    """What git prints, or nothing where it has nothing to say: a checkout without history is one too."""
    try:
        return subprocess.check_output(
            ["git", *arguments], cwd=ROOT, stderr=subprocess.DEVNULL, universal_newlines=True
        ).strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


COMMANDS = {"demo": demo, "test": test, "bench": bench, "lint": lint, "verify": verify, "build": build}


def main(arguments: Sequence[str]) -> int:
    if sys.version_info < OLDEST:
        hand_over(arguments)
    if not arguments or arguments[0] not in COMMANDS:
        print(__doc__)
        return 0 if arguments in (["-h"], ["--help"]) else 2
    try:
        return COMMANDS[arguments[0]](arguments[1:])
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
