"""The kernel laid open: builds `probe/probe.pyx` for the fixture `probe`, and says in Python what words mean.

Words are packed and read here from the layout's description, and not with the kernel's own functions.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from importlib import import_module, metadata
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

import dev
from fastlimit import Limiter
from fastlimit.limits import Limit
from fastlimit.testing import ManualClock

HERE = Path(__file__).resolve().parent / "probe"
SANITIZE = os.environ.get("FASTLIMIT_SANITIZE", "")
"""As setup.py has it: the kernel in the probe is to be watched, too."""
SANITIZER = [f"-fsanitize={SANITIZE}"] if SANITIZE else []
LEVEL = ["-Og", "-fno-wrapv", "-g"] if SANITIZE else ["-O2"]
FLAGS = [*LEVEL, *SANITIZER, "-Wno-unused-variable", "-include", str(HERE / "interpose.h")]
if platform.machine() in ("x86_64", "AMD64"):
    FLAGS.append("-mcx16")

START_S = 1_000_000_000
SECOND = 10**9
SECRET = (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89)
"""Digits of pi: places depend on it, so tests fix it."""

WINDOW = 48
VERSIONS = 4
BIRTH = 2**57
"""What a table's clock says at its first use, in units of a limit that needs no scaling."""


def load(folder: Path) -> ModuleType:
    """The compiled probe, built anew only if a source changed since it was left in `folder`."""
    home = folder / digest()
    module = home / f"probe{EXTENSION_SUFFIXES[0]}"
    if not module.exists():
        for stale in folder.iterdir():
            shutil.rmtree(stale)
        build(home)
    spec = importlib.util.spec_from_file_location("probe", module)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def digest() -> str:
    whole = hashlib.sha256(f"{sys.version} {metadata.version('cython')} {FLAGS} {dev.digest()}".encode())
    for path in sorted(HERE.iterdir()):
        whole.update(path.read_bytes())
    return whole.hexdigest()[:16]


def build(folder: Path) -> None:
    setuptools = import_module("setuptools")
    extension = setuptools.Extension(
        "probe",
        [str(HERE / "probe.pyx")],
        include_dirs=[str(HERE)],
        extra_compile_args=FLAGS,
        extra_link_args=SANITIZER,
    )
    [translated] = import_module("Cython.Build").cythonize(
        extension, include_path=[dev.ROOT, str(HERE)], build_dir=str(folder / "c"), force=True, quiet=True
    )
    distribution = setuptools.Distribution({"name": "probe", "ext_modules": [translated]})
    command = import_module("setuptools.command.build_ext").build_ext(distribution)
    command.build_lib = command.build_temp = str(folder)
    command.ensure_finalized()
    command.run()


# --- words


class Key(NamedTuple):
    tag: int
    ext: int
    home: int


class Cell(NamedTuple):
    """One slot as it lies in memory."""

    lo: int
    hi: int
    identity: int = 0
    reported: int = 0
    denied: int = 0

    @property
    def word(self) -> tuple[int, int]:
        return self.lo, self.hi

    @property
    def tentative(self) -> bool:
        return self.lo >> 63 == 1

    @property
    def version(self) -> int:
        return self.lo >> 60 & 3

    @property
    def body(self) -> int:
        return self.lo & (2**60 - 1)

    @property
    def tag(self) -> int:
        return self.hi >> 32

    @property
    def admitted(self) -> int:
        return self.hi & (2**32 - 1)

    @property
    def ext(self) -> int:
        return self.identity >> 32

    @property
    def gen(self) -> int:
        return self.identity & (2**32 - 1)

    @property
    def claimed_ext(self) -> int:
        return self.lo >> 28 & (2**32 - 1)

    @property
    def claimed_gen(self) -> int:
        return self.lo & (2**28 - 1)


UNUSED = Cell(0, 0)


def live(key: Key, body: int, count: int, *, gen: int = 1, version: int = 0) -> Cell:
    return Cell(version << 60 | body, key.tag << 32 | count, key.ext << 32 | gen)


def claim(key: Key, gen: int, count: int = 0, *, identity: int = 0) -> Cell:
    return Cell(1 << 63 | key.ext << 28 | gen, key.tag << 32 | count, identity)


def nobody(tag: int, gen: int, count: int = 0, *, identity: int = 0) -> Cell:
    """What is left of a claim that was killed."""
    return Cell(1 << 63 | gen, tag << 32 | count, identity)


# --- tables


class Table:
    """A limiter whose clock stands still, seen as its slots. With max_keys=1 all keys have home 0."""

    def __init__(
        self,
        probe: ModuleType,
        limit: str | Limit,
        *,
        max_keys: int = 1,
        when_full: Literal["share", "deny", "allow"] = "share",
        clock: ManualClock | None = None,
    ) -> None:
        self.probe = probe
        self.clock = ManualClock(START_S) if clock is None else clock
        self.limiter = Limiter(limit, max_keys=max_keys, when_full=when_full, clock=self.clock)
        probe.set_secret(self.limiter, SECRET)

    def key(self, key: Any) -> Key:
        return Key(*self.probe.key_of(self.limiter, key))

    def __getitem__(self, index: int) -> Cell:
        return Cell(*self.probe.read(self.limiter, index))

    def __setitem__(self, index: int, cell: Cell) -> None:
        self.probe.write(self.limiter, index, cell)

    def __len__(self) -> int:
        return int(self.probe.slot_count(self.limiter))

    def cells(self) -> list[Cell]:
        return [self[i] for i in range(len(self))]

    def overflow(self, key: Any) -> int:
        """The slot that a key shares when its window is full."""
        return int(self.probe.overflow(self.limiter, key))

    def slots_of(self, key: Any) -> list[int]:
        """Where a key is live."""
        tag, ext, _ = self.key(key)
        return [
            i
            for i, cell in enumerate(self.cells())
            if (cell.tag, cell.ext) == (tag, ext) and not cell.tentative
        ]

    def lay(self, cells: Sequence[Cell]) -> None:
        """Write the first slots."""
        for i, cell in enumerate(cells):
            self[i] = cell

    def take(self, key: Any, index: int, word: tuple[int, int] | None = None) -> tuple[int, int] | None:
        """The first step of a claim, from the word that was read there or from the one that is there."""
        taken: tuple[int, int] | None = self.probe.take(self.limiter, key, index, word or self[index].word)
        return taken

    def confirm(self, key: Any, index: int, word: tuple[int, int] | None) -> str:
        """Its last steps: "done", "refused" or "lost"."""
        return str(self.probe.confirm(self.limiter, key, index, word))

    def grants(self, key: Any) -> int:
        """Charge a key until it is refused."""
        return next(n for n in range(10_000) if not self.limiter.allow(key))


# --- calls in turns


class Played(NamedTuple):
    """What came of the same calls under every order of turns."""

    outcomes: dict[Any, list[int]]
    """Each with the choices that first led to it, with which `probe.play` repeats it."""
    runs: int
    lost: int
    """Swaps that came too late, in all runs."""


def play(
    parts: Sequence[Sequence[Any]],
    tables: Sequence[Table],
    outcome: Callable[[], Any],
    *,
    preemptions: int = 0,
    deaths: int = 0,
    watched_slots: int = 0,
    shared: Sequence[str] = (),
) -> Played:
    """Make some lists of calls under every order of turns with so many preemptions and deaths at most.

    Each time `outcome` looks at what came of it, and the tables, which share a clock, become what they were.
    With `watched_slots`, turns change only at the version and the first slots of the first table, and at the
    overflow slots of the keys `shared`.
    """
    probe, clock, now_ns = tables[0].probe, tables[0].clock, tables[0].clock.now_ns
    before = [(table.limiter, probe.memory(table.limiter)) for table in tables]
    calls = [call for part in parts for call in part]
    outcomes: dict[Any, list[int]] = {}
    choices: list[int] = []
    runs = lost = 0
    probe.watch_slots(*([tables[0].limiter, watched_slots, shared] if watched_slots else []))
    while True:
        for call in calls:
            call.clear()
        options, lost_now = probe.play([list(part) for part in parts], bytes(choices), preemptions, deaths)
        choices += [0] * (len(options) - len(choices))
        runs, lost = runs + 1, lost + lost_now
        outcomes.setdefault(outcome(), choices)
        clock.set_ns(now_ns)
        for limiter, memory in before:
            probe.restore(limiter, memory)
        last = len(choices) - 1
        while last >= 0 and choices[last] + 1 == options[last]:
            last -= 1
        if last < 0:
            return Played(outcomes, runs, lost)
        choices = [*choices[:last], choices[last] + 1]
