"""Builds the one compiled module; everything else is declared in pyproject.toml.

Switches, read from the environment (`dev.py` recompiles when one changes):

FASTLIMIT_DEBUG=1         bounds, None and C assertions checked, -O0 -g, and build/cython/fastlimit/_core.html
FASTLIMIT_TRACE=1         line tracing, for `coverage run -m pytest`; not on Python 3.12, not for benchmarks
FASTLIMIT_SANITIZE=LIST   -fsanitize=LIST, "address,undefined" or "thread", at -Og, for optimizing what they
                          add takes a minute; `python -m proofs.sanitizers` runs it, and says how
"""

from __future__ import annotations

import os
import platform
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DEBUG = os.environ.get("FASTLIMIT_DEBUG") == "1"
TRACE = os.environ.get("FASTLIMIT_TRACE") == "1"
SANITIZE = os.environ.get("FASTLIMIT_SANITIZE", "")

# What Cython's own C trips over is let through: unused arguments, and static tables filled in part.
WARNINGS = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-missing-field-initializers"]

# Not said in the sources, where it would win over this.
DIRECTIVES = {"boundscheck": DEBUG, "initializedcheck": DEBUG, "nonecheck": DEBUG, "linetrace": TRACE}


def compiler_arguments() -> list[str]:
    level = ["-O0", "-g", "-UNDEBUG"] if DEBUG else ["-Og"] if SANITIZE else ["-O3"]
    arguments = [*WARNINGS, *level]
    if level == ["-O3"] and platform.system() == "Linux":
        # The kernel is one unit of small headers: at gcc's default, calls cut up the hot path, 6 ns of 27.
        arguments.append("--param=inline-unit-growth=200")
    if platform.machine() in ("x86_64", "AMD64"):
        arguments.append("-mcx16")  # the 16-byte compare-and-swap, which the first x86-64 processors lacked
    if SANITIZE:
        # Python's own flags say -fwrapv, under which no sanitizer minds an overflow.
        arguments += [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer", "-fno-wrapv", "-g"]
    return arguments


class BuildCore(build_ext):
    """Translates as late as it compiles (an sdist needs neither), and out of the package's sight."""

    def build_extension(self, ext: Extension) -> None:
        self.force = True  # a switch may have changed where no file did
        [translated] = cythonize(
            ext,
            # Cython's coverage plugin finds the C only beside the source.
            build_dir=None if TRACE else "build/cython",
            force=True,
            annotate=DEBUG,
            compiler_directives=DIRECTIVES,
        )
        ext.sources = translated.sources
        super().build_extension(ext)


core = Extension(
    "fastlimit._core",
    ["fastlimit/_core.pyx"],
    depends=glob("fastlimit/**/*.px[di]", recursive=True),
    define_macros=[("CYTHON_TRACE_NOGIL", "1"), ("CYTHON_USE_SYS_MONITORING", "0")] if TRACE else [],
    extra_compile_args=compiler_arguments(),
    extra_link_args=[f"-fsanitize={SANITIZE}"] if SANITIZE else [],
)

setup(ext_modules=[core], cmdclass={"build_ext": BuildCore})
