"""What is shipped: the sdist, the wheel made from it, the wheel installed elsewhere, and a Cython user of it.

One build serves all tests here. It starts from a copy of the checkout in which earlier builds left litter.
"""

from __future__ import annotations

import email
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

import pytest
from conftest import complaint

import dev

ROOT = Path(dev.ROOT)
SHIPPED = (".py", ".pyx", ".pxd", ".pxi", ".pyi", "py.typed")
LITTER = (
    "fastlimit/_core.c",
    "fastlimit/_core.html",
    "fastlimit/_core.cpython-30-nowhere.so",
    "fastlimit/algorithms/token_bucket.c",
    "build/lib/fastlimit/stale.py",
    "tests/__pycache__/conftest.pyc",
)
NAME = "fastlimit_engine-0.1.0"

CONSUMER = """\
from libc.stdint cimport int64_t, uint64_t
from fastlimit._core cimport Bucket, bucket_allow, bucket_now

def admitted(Bucket bucket, uint64_t calls):
    cdef uint64_t call, count = 0
    cdef int64_t now = bucket_now(bucket)
    with nogil:
        for call in range(calls):
            count += bucket_allow(bucket, now, 1)
    return count
"""
# A clock that stands still: a claim reads its own, and would find a later `now` than the caller's.
RUN_CONSUMER = """\
import consumer, fastlimit, fastlimit.testing
limiter = fastlimit.Limiter("1/h burst 5", clock=fastlimit.testing.ManualClock())
print(consumer.admitted(limiter.bucket("k"), 9))
"""
CONSUMER_SETUP = """\
from Cython.Build import cythonize
from setuptools import setup
setup(ext_modules=cythonize("consumer.pyx", include_path=[{site!r}], language_level=3))
"""


@dataclass(frozen=True)
class Built:
    sdist: list[str]
    """Names in the sdist, without its leading folder."""
    wheel: list[str]
    metadata: Message
    tags: str | None
    installed: Path
    """An environment that holds the wheel and nothing else."""

    @property
    def python(self) -> Path:
        return self.installed / "bin" / "python"

    @property
    def site(self) -> str:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}{sys.abiflags}"
        return str(self.installed / "lib" / version / "site-packages")


def call(*command: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    outcome = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout


def plain_environment() -> dict[str, str]:
    """This one without the switches of setup.py."""
    return {name: value for name, value in os.environ.items() if not name.startswith("FASTLIMIT_")}


def build_environment() -> dict[str, str]:
    """In CI the compiler's warnings are errors, but for what its optimizer only supposes."""
    if "CI" not in os.environ:
        return plain_environment()
    # CFLAGS takes the place of Python's own, so it repeats them.
    flags = f"{sysconfig.get_config_var('CFLAGS')} -Werror -Wno-error=maybe-uninitialized"
    return plain_environment() | {"CFLAGS": flags}


def littered_copy(folder: Path) -> Path:
    ignored = shutil.ignore_patterns(".*", "build", "dist", "*.so", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, folder, ignore=ignored)
    for name in LITTER:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("/* left by an earlier build */\n")
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    top = tmp_path_factory.mktemp("packaging")
    checkout = littered_copy(top / "checkout")
    dist = top / "dist"
    # Without naming one, `build` makes the sdist, and the wheel from that.
    call(
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--outdir",
        dist,
        ".",
        cwd=checkout,
        env=build_environment(),
    )
    [wheel] = dist.glob("*.whl")
    installed = top / "installed"
    venv.create(installed, with_pip=False, symlinks=True)
    pip = (sys.executable, "-m", "pip", "--python", installed / "bin" / "python")
    call(*pip, "install", "--no-deps", "--no-index", "--disable-pip-version-check", wheel, cwd=top)
    with tarfile.open(dist / f"{NAME}.tar.gz") as archive:
        in_sdist = [member.name.removeprefix(f"{NAME}/") for member in archive if member.isfile()]
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(archive.read(f"{NAME}.dist-info/METADATA"))
        tags = email.message_from_bytes(archive.read(f"{NAME}.dist-info/WHEEL"))["Tag"]
        return Built(in_sdist, archive.namelist(), metadata, tags, installed)


def package_sources() -> set[str]:
    paths = (path for path in (ROOT / "fastlimit").rglob("*") if path.name.endswith(SHIPPED))
    return {path.relative_to(ROOT).as_posix() for path in paths if path.is_file()}


def test_the_wheel_holds_the_package_and_one_extension(built: Built) -> None:
    extension = f"fastlimit/_core{sysconfig.get_config_var('EXT_SUFFIX')}"
    in_package = {name for name in built.wheel if ".dist-info/" not in name}
    assert package_sources() | {extension} == in_package


def test_the_sdist_holds_what_builds_and_proves_the_package(built: Built) -> None:
    expected = package_sources() | {
        "pyproject.toml",
        "setup.py",
        "MANIFEST.in",
        "README.md",
        "LICENSE",
        "dev.py",
    }
    expected |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py")}
    assert set() == expected - set(built.sdist)


def test_neither_holds_what_a_build_or_a_tool_left(built: Built) -> None:
    litter = (".c", ".so", ".html", ".pyc", "stale.py")
    assert [] == [name for name in built.sdist if name.endswith(litter)]
    assert [name for name in built.wheel if name.endswith(litter)] == [
        name for name in built.wheel if name.startswith("fastlimit/_core.") and name.endswith(".so")
    ]


def test_the_wheel_says_what_it_is(built: Built) -> None:
    expected = ("fastlimit-engine", "0.1.0", ">=3.11", "MIT", ["LICENSE"])
    fields = [built.metadata[name] for name in ("Name", "Version", "Requires-Python", "License-Expression")]
    assert expected == (*fields, built.metadata.get_all("License-File"))
    interpreter = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert built.tags is not None
    assert built.tags.startswith(f"{interpreter}-{interpreter}{sys.abiflags}-")


def test_the_core_depends_on_nothing(built: Built) -> None:
    requirements = built.metadata.get_all("Requires-Dist") or []
    assert requirements, "the extras are missing too"
    assert [] == [requirement for requirement in requirements if "extra ==" not in requirement]


def test_the_installed_wheel_decides(built: Built, tmp_path: Path) -> None:
    code = "import fastlimit as f; print(f.__file__, *map(f.Limiter('1/h burst 2').allow, 'kkk'))"
    where, *decisions = call(built.python, "-I", "-c", code, cwd=tmp_path).split()
    assert ["True", "True", "False"] == decisions
    assert Path(built.site) / "fastlimit" / "__init__.py" == Path(where)


def test_the_installed_command_starts(built: Built, tmp_path: Path) -> None:
    assert "replay" in call(built.installed / "bin" / "fastlimit", "--help", cwd=tmp_path)


def test_a_cython_user_can_cimport_the_decision(built: Built, tmp_path: Path) -> None:
    (tmp_path / "consumer.pyx").write_text(CONSUMER)
    (tmp_path / "setup.py").write_text(CONSUMER_SETUP.format(site=built.site))
    flags = f"{sysconfig.get_config_var('CFLAGS')} -Wall -Werror"
    environment = plain_environment() | {"CFLAGS": flags}
    call(sys.executable, "setup.py", "build_ext", "--inplace", cwd=tmp_path, env=environment)
    assert "5\n" == call(built.python, "-c", RUN_CONSUMER, cwd=tmp_path)


# --- these tests themselves


def test_the_tests_meet_the_extension_of_this_checkout() -> None:
    import fastlimit._core

    assert complaint(fastlimit._core.__file__, Path(dev.STAMP), ROOT) is None


def test_another_module_in_its_place_would_be_refused(built: Built, tmp_path: Path) -> None:
    elsewhere = Path(built.site) / "fastlimit" / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"
    for module in (elsewhere, ROOT / "fastlimit" / "_core.py"):
        assert "not the extension built in" in (complaint(str(module), tmp_path / "none", ROOT) or "")


def test_an_extension_older_than_its_sources_would_be_refused(tmp_path: Path) -> None:
    import fastlimit._core

    stamp = tmp_path / "stamp.json"
    stamp.write_text('{"built_from": {"sources": "of yesterday"}}')
    assert "changed since" in (complaint(fastlimit._core.__file__, stamp, ROOT) or "")
