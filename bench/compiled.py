"""Builds the bench's own extension modules on demand, with the flags that the engine is built with."""

from __future__ import annotations

import atexit
import hashlib
import importlib.util
import platform
import shutil
import sys
import tempfile
from functools import cache
from importlib import import_module, metadata
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType

from .harness import ROOT, Unavailable

FLAGS = ["-O3"] + (["-mcx16"] if platform.machine() in ("x86_64", "AMD64") else [])


@cache
def cache_directory() -> Path:
    """Where builds are kept: in the virtual environment, or for this run only where there is none."""
    if sys.prefix != sys.base_prefix:
        return Path(sys.prefix) / "bench-cache"
    directory = Path(tempfile.mkdtemp(prefix="fastlimit-bench-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def sources_digest(interpreter: str, *patterns: str) -> str:
    """Names what a build depends on: the interpreter and these files of the project."""
    digest = hashlib.sha256(interpreter.encode())
    for path in sorted(path for pattern in patterns for path in ROOT.glob(pattern)):
        digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def load(name: str) -> ModuleType:
    """The extension module of `bench/NAME.pyx`, built if it is not yet; Unavailable says why it cannot be."""
    try:
        version = metadata.version("cython")
    except metadata.PackageNotFoundError:
        raise Unavailable("Cython is not installed") from None
    digest = sources_digest(sys.version, f"bench/{name}.pyx", "fastlimit/**/*.pxd", "fastlimit/_core.pyx")
    directory = cache_directory() / f"{name}-{version}-{digest}"
    module = directory / f"{name}{EXTENSION_SUFFIXES[0]}"
    if not module.exists():
        build(name, directory)
    spec = importlib.util.spec_from_file_location(name, module)
    if spec is None or spec.loader is None:
        raise Unavailable(f"{module} cannot be imported")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def build(name: str, directory: Path) -> None:
    """Compiles `bench/NAME.pyx` to an extension module in `directory`."""
    try:
        setuptools = import_module("setuptools")
        build_ext = import_module("setuptools.command.build_ext").build_ext
        cythonize = import_module("Cython.Build").cythonize
    except ImportError as error:
        raise Unavailable(str(error)) from None
    directory.mkdir(parents=True, exist_ok=True)
    source = shutil.copy(ROOT / "bench" / f"{name}.pyx", directory)
    try:
        extensions = cythonize(
            [setuptools.Extension(name, [str(source)], extra_compile_args=FLAGS)],
            include_path=[str(ROOT)],
            quiet=True,
        )
        command = build_ext(setuptools.Distribution({"name": name, "ext_modules": extensions}))
        command.build_lib = str(directory)
        command.build_temp = str(directory / "objects")
        command.ensure_finalized()
        command.run()
    except Exception as error:  # whatever compilers, of both kinds, raise
        raise Unavailable(f"{name}.pyx does not build; the compiler's message is above") from error
