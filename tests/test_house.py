"""The house's rules, each over every file but this one, and each shown to catch a breach planted for it.

A rule is a function from a source to what it finds wrong there; ARCHITECTURE.md says why each is kept.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("fastlimit", "tests", "bench", "proofs", "examples", "docs", ".ci")
SUFFIXES = {".py", ".pyx", ".pxd", ".pxi", ".pyi", ".lua", ".md", ".toml", ".in", ""}
CODE = {".py", ".pyx", ".pxd", ".pxi", ".pyi", ".lua"}
CYTHON = {".pyx", ".pxd", ".pxi"}
MAX_LINES = 600

# What the outer packages, the examples and the bench may build on, besides each one's own modules.
PUBLIC = {
    "fastlimit",
    "fastlimit.errors",
    "fastlimit.http",
    "fastlimit.metrics",
    "fastlimit.policy",
    "fastlimit.reference",
    "fastlimit.sync",
    "fastlimit.testing",
}
OUTER = ("fastlimit/http/", "fastlimit/integrations/", "fastlimit/lab/", "examples/", "bench/")
ABOVE_SYNC = ("cli", "http", "integrations", "lab", "metrics", "policy")
REDIS_USERS = {"fastlimit/sync/redis_store.py", "fastlimit/sync/strict.py"}
TABLE = "fastlimit._kernel.table"
SEARCHING = {TABLE} | {f"{TABLE}.{name}" for name in ("find", "scan", "take", "settle_claim", "kill_claim")}
ALGORITHM = r"fastlimit\.algorithms\.(?!outcome\b)\w+"


@dataclass(frozen=True)
class Source:
    path: str
    """Relative to the checkout, with forward slashes."""
    text: str

    @property
    def suffix(self) -> str:
        return Path(self.path).suffix

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def package(self) -> list[str]:
        return self.path.split("/")[:-1]

    def absolute(self, level: int, module: str) -> str:
        """The full name of a module that is named from here with `level` dots in front."""
        if level == 0:
            return module
        return ".".join([*self.package[: len(self.package) - level + 1], *filter(None, [module])])

    @cached_property
    def imports(self) -> list[str]:
        """Full dotted names that this Python source imports; `from a import b` gives `a.b`."""
        found = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = self.absolute(node.level, node.module or "")
                found += [f"{base}.{alias.name}" for alias in node.names]
        return found

    @cached_property
    def cython_imports(self) -> list[tuple[str, str]]:
        """(`import` or `cimport`, full dotted name) of this Cython source."""
        found = []
        code = re.sub(r'""".*?"""', "", self.text, flags=re.DOTALL)
        statement = r"^[ \t]*(?:from[ \t]+(\.*)([\w.]*)[ \t]+)?(c?import)[ \t]+(\([^)]*\)|[^\n#]*)"
        for dots, module, verb, names in re.findall(statement, code, re.MULTILINE):
            base = self.absolute(len(dots), module)
            imported = re.findall(r"([\w.]+)(?:[ \t]+as[ \t]+\w+)?[ \t]*(?:,|\)|$)", names, re.MULTILINE)
            found += [(verb, f"{base}.{name}".lstrip(".")) for name in imported]
        return found


def within(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or any(path.with_suffix(suffix).exists() for suffix in (".py", ".pyx"))


Findings = Iterator[str]


# --- who may import whom


def algorithms_stand_alone(source: Source) -> Findings:
    if source.path.startswith("fastlimit/algorithms/") and source.suffix == ".py":
        for name in source.imports:
            if within(name, "fastlimit") and not within(name, "fastlimit.algorithms"):
                yield f"imports {name}"


def cimports(source: Source) -> list[str]:
    return [name for verb, name in source.cython_imports if verb == "cimport"]


def algorithms_know_no_table(source: Source) -> Findings:
    """Of the kernel only the ring, in which a sliding log keeps its state."""
    if source.path.startswith("fastlimit/algorithms/") and source.suffix in CYTHON:
        for name in cimports(source):
            if within(name, "fastlimit._kernel") and not within(name, "fastlimit._kernel.ring"):
                yield f"cimports {name}"


def table_and_slot_know_no_algorithm(source: Source) -> Findings:
    """But for the numbers of a limit, which lie in a table's header."""
    if source.path in ("fastlimit/_kernel/table.pxd", "fastlimit/_kernel/slot.pxd"):
        for name in cimports(source):
            if within(name, "fastlimit.algorithms") and name != "fastlimit.algorithms.outcome.Limit":
                yield f"cimports {name}"


def only_decide_searches_and_steps(source: Source) -> Findings:
    """What builds on it may hold a table and ask an algorithm for a report, but finds no slot for it."""
    if source.suffix in CYTHON and source.path != "fastlimit/_kernel/decide.pxd":
        searching = [name for name in cimports(source) if name in SEARCHING]
        algorithms = [name for name in cimports(source) if re.match(ALGORITHM, name)]
        if searching and algorithms:
            yield f"cimports {searching[0]} and {algorithms[0]}"


def core_imports_no_python_of_ours(source: Source) -> Findings:
    if source.path.startswith("fastlimit/") and source.suffix in CYTHON:
        for verb, name in source.cython_imports:
            if verb == "import" and within(name, "fastlimit"):
                yield f"imports {name}"


def limiter_does_not_know_sync(source: Source) -> Findings:
    if source.path == "fastlimit/limiter.py":
        yield from (f"imports {name}" for name in source.imports if within(name, "fastlimit.sync"))


def sync_imports_down(source: Source) -> Findings:
    if source.path.startswith("fastlimit/sync/") and source.suffix == ".py":
        for name in source.imports:
            if any(within(name, f"fastlimit.{above}") for above in ABOVE_SYNC):
                yield f"imports {name}"


def outer_parts_use_the_public_surface(source: Source) -> Findings:
    if source.path.startswith(OUTER) and source.suffix == ".py":
        own = ".".join(source.package[:2])
        for name in source.imports:
            module = name if is_module(name) else name.rpartition(".")[0]
            private = module not in PUBLIC or name.rpartition(".")[2].startswith("_")
            if private and within(module, "fastlimit") and not within(module, own):
                yield f"imports {name}"


def redis_is_imported_in_two_places(source: Source) -> Findings:
    if source.path.startswith("fastlimit/") and source.suffix == ".py" and source.path not in REDIS_USERS:
        yield from (
            f"imports {name}" for name in source.imports if within(name, "redis") or within(name, "hiredis")
        )


# --- what a source may hold


def no_file_is_too_long(source: Source) -> Findings:
    lines = source.text.count("\n")
    if source.suffix in CODE and lines > MAX_LINES:
        yield f"{lines} lines"


def dunder_all_is_sorted(source: Source) -> Findings:
    if source.suffix == ".py":
        for node in source.tree.body:
            if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [
                "__all__"
            ]:
                names = ast.literal_eval(node.value)
                if list(names) != sorted(set(names)):
                    yield f"__all__ is not sorted: {names}"


def nothing_is_left_to_do(source: Source) -> Findings:
    yield from re.findall(r"\b(?:TODO|FIXME|XXX|HACK)\b", source.text)


def names_no_place_of_one_machine(source: Source) -> Findings:
    yield from re.findall(r"(?<![\w.])(?<![A-Z] )/(?:root|home|work|Users)/\w+", source.text)


def never_sends_to_another_project(source: Source) -> Findings:
    """On the index the name `fastlimit` is somebody else's."""
    yield from re.findall(r"pip3? install [^\n]*?\bfastlimit(?![\w-])(?!/)", source.text)


def no_test_sleeps(source: Source) -> Findings:
    if source.path.startswith("tests/") and source.suffix == ".py":
        yield from re.findall(r"\b(?:time|asyncio)\.sleep\((?!0\))", source.text)


def no_test_is_excused(source: Source) -> Findings:
    if source.path.startswith("tests/") and source.suffix == ".py":
        yield from re.findall(r"@pytest\.mark\.(?:skip|xfail|flaky)\b", source.text)


def every_test_asserts(source: Source) -> Findings:
    """By an assert, by `pytest.raises`, or by a function whose name says so, or its body in the same file."""
    if re.match(r"tests/(.*/)?test_\w+\.py$", source.path):
        asserting = asserting_functions(source.tree)
        yield from (
            f"{function.name} asserts nothing"
            for function in functions_in(source.tree)
            if function.name.startswith("test_") and function.name not in asserting
        )


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions_in(tree: ast.Module) -> list[Function]:
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def asserting_functions(tree: ast.Module) -> set[str]:
    """Names of the functions and methods that assert, or call one of these."""
    known: set[str] = set()
    while True:
        found = {
            function.name
            for function in functions_in(tree)
            if any(asserts(node, known) for node in ast.walk(function))
        }
        if found == known:
            return known
        known = found


def asserts(node: ast.AST, known: set[str]) -> bool:
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func).rpartition(".")[2]
        return name in ("raises", "warns", *known) or name.startswith(
            ("assert_", "check_", "expect_", "prove")
        )
    return isinstance(node, ast.Assert)


Rule = Callable[[Source], Findings]

# Each rule with a source that breaks it.
BREACHES: list[tuple[Rule, str, str]] = [
    (algorithms_stand_alone, "fastlimit/algorithms/a.py", "from ..limits import Algorithm"),
    (algorithms_stand_alone, "fastlimit/algorithms/a.py", "def f():\n    import fastlimit.rates"),
    (algorithms_know_no_table, "fastlimit/algorithms/a.pxd", "from .._kernel.table cimport Table"),
    (algorithms_know_no_table, "fastlimit/algorithms/a.pxd", "from fastlimit._kernel cimport (\n slot)"),
    (table_and_slot_know_no_algorithm, "fastlimit/_kernel/table.pxd", "from ..algorithms cimport dispatch"),
    (
        table_and_slot_know_no_algorithm,
        "fastlimit/_kernel/slot.pxd",
        "from ..algorithms.outcome cimport State",
    ),
    (
        only_decide_searches_and_steps,
        "fastlimit/_core.pyx",
        "from fastlimit._kernel.table cimport find\nfrom fastlimit.algorithms.fixed_window cimport (\n step)",
    ),
    (
        only_decide_searches_and_steps,
        "fastlimit/_kernel/engine.pxd",
        "from .table cimport Table, scan\nfrom ..algorithms cimport token_bucket as t",
    ),
    (
        only_decide_searches_and_steps,
        "fastlimit/_kernel/answer.pxd",
        "from . cimport table\nfrom ..algorithms cimport dispatch",
    ),
    (core_imports_no_python_of_ours, "fastlimit/_core.pyx", "from .limits import Limit"),
    (core_imports_no_python_of_ours, "fastlimit/_core.pyx", "def f():\n    import fastlimit.limits"),
    (limiter_does_not_know_sync, "fastlimit/limiter.py", "from . import sync"),
    (limiter_does_not_know_sync, "fastlimit/limiter.py", "import fastlimit.sync.modes as modes"),
    (sync_imports_down, "fastlimit/sync/batch.py", "from fastlimit.policy import Policy"),
    (outer_parts_use_the_public_surface, "bench/floors.py", "from fastlimit._core import Table"),
    (outer_parts_use_the_public_surface, "bench/floors.py", "from fastlimit import limiter"),
    (outer_parts_use_the_public_surface, "examples/a.py", "import fastlimit.limiter"),
    (outer_parts_use_the_public_surface, "fastlimit/http/asgi.py", "from ..limiter import Limiter"),
    (redis_is_imported_in_two_places, "fastlimit/sync/modes.py", "import redis.asyncio"),
    (no_file_is_too_long, "fastlimit/_core.pyx", "\n" * (MAX_LINES + 1)),
    (dunder_all_is_sorted, "fastlimit/a.py", "__all__ = ['b', 'a']"),
    (nothing_is_left_to_do, "docs/a.md", "TODO: say why"),
    (names_no_place_of_one_machine, "README.md", "cd /home/ann/fastlimit"),
    (never_sends_to_another_project, "README.md", "pip install fastlimit"),
    (never_sends_to_another_project, "README.md", "pip install 'fastlimit[cli]'"),
    (no_test_sleeps, "tests/test_a.py", "time.sleep(1)"),
    (no_test_is_excused, "tests/test_a.py", "@pytest.mark.xfail\ndef test_a(): ..."),
    (every_test_asserts, "tests/test_a.py", "def test_a():\n    print(1)"),
    (every_test_asserts, "tests/test_a.py", "def test_a():\n    play()\n\ndef play():\n    print(1)"),
]

# What the rules must let through although it looks alike.
INNOCENT: list[tuple[Rule, str, str]] = [
    (algorithms_stand_alone, "fastlimit/algorithms/a.py", "from .outcome import Limit\nimport math"),
    (algorithms_know_no_table, "fastlimit/algorithms/a.pxd", "from .outcome cimport Limit\nfrom . cimport b"),
    (algorithms_know_no_table, "fastlimit/algorithms/a.pxd", "from fastlimit._kernel.ring cimport Ring"),
    (
        table_and_slot_know_no_algorithm,
        "fastlimit/_kernel/table.pxd",
        "from fastlimit.algorithms.outcome cimport Limit\nfrom .slot cimport Slot",
    ),
    (
        only_decide_searches_and_steps,
        "fastlimit/_kernel/decide.pxd",
        "from fastlimit._kernel.table cimport find\nfrom fastlimit.algorithms.token_bucket cimport step",
    ),
    (
        only_decide_searches_and_steps,
        "fastlimit/_kernel/answer.pxd",
        "from .table cimport Table\nfrom ..algorithms cimport dispatch",
    ),
    (core_imports_no_python_of_ours, "fastlimit/_core.pyx", "from ._kernel.clock cimport now\nimport os"),
    (core_imports_no_python_of_ours, "fastlimit/_core.pyx", '"""\nfrom fastlimit import Limiter\n"""'),
    (
        outer_parts_use_the_public_surface,
        "bench/floors.py",
        "from fastlimit import Limiter\nimport bench.report",
    ),
    (outer_parts_use_the_public_surface, "fastlimit/http/asgi.py", "from .headers import fields"),
    (redis_is_imported_in_two_places, "fastlimit/sync/redis_store.py", "import redis"),
    (never_sends_to_another_project, "README.md", "pip install fastlimit-engine"),
    (names_no_place_of_one_machine, "docs/a.md", '"GET /home/index HTTP/1.1"'),
    (no_test_sleeps, "tests/test_a.py", "await asyncio.sleep(0)"),
    (every_test_asserts, "tests/test_a.py", "def test_a():\n    with pytest.raises(ValueError): f()"),
    (every_test_asserts, "tests/test_a.py", "def test_a():\n    a.play()\n\ndef play():\n    assert 1"),
]

RULES = list(dict.fromkeys(rule for rule, _, _ in BREACHES))


def all_sources() -> list[Source]:
    files = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in FOLDERS:
        files += [
            path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts
        ]
    return [
        Source(path.relative_to(ROOT).as_posix(), path.read_text("utf-8"))
        for path in sorted(files)
        if path.suffix in SUFFIXES and path != Path(__file__)
    ]


SOURCES = all_sources()


def name_of(rule: Rule) -> str:
    return rule.__name__


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_every_source_keeps(rule: Rule) -> None:
    findings = [f"{source.path}: {finding}" for source in SOURCES for finding in rule(source)]
    assert [] == findings


@pytest.mark.parametrize(("rule", "path", "text"), BREACHES)
def test_a_planted_breach_is_found(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source(path, text)))


@pytest.mark.parametrize(("rule", "path", "text"), INNOCENT)
def test_what_looks_alike_is_let_through(rule: Rule, path: str, text: str) -> None:
    assert [] == list(rule(Source(path, text)))


def test_the_rules_see_the_whole_package() -> None:
    seen = {source.path for source in SOURCES}
    assert {
        "fastlimit/__init__.py",
        "fastlimit/_core.pyx",
        "fastlimit/_core.pxd",
        "fastlimit/_core.pyi",
        "dev.py",
    } <= seen


# --- what a running interpreter shows


def fresh_interpreter(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def modules_of_the_package() -> list[str]:
    paths = sorted((ROOT / "fastlimit").rglob("*.py"))
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths if path.stem != "__main__"
    ]
    return ["fastlimit._core", *(name.removesuffix(".__init__") for name in names)]


@pytest.mark.parametrize("module", modules_of_the_package())
def test_a_module_can_be_imported_first(module: str) -> None:
    outcome = fresh_interpreter(f"import {module}")
    assert (0, "") == (outcome.returncode, outcome.stderr)


def imported_by(statement: str) -> set[str]:
    """The top-level modules that a statement brings into a fresh interpreter."""
    outcome = fresh_interpreter(
        f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    )
    assert "" == outcome.stderr
    return {name.partition(".")[0] for name in outcome.stdout.split()}


def foreign(modules: set[str]) -> set[str]:
    """Those that are neither the standard library's nor ours; two are registered by what Cython makes."""
    own = {name for name in modules if name in ("fastlimit", "cython_runtime") or name.startswith("_cython_")}
    return modules - own - sys.stdlib_module_names


def test_the_engine_needs_the_standard_library_only() -> None:
    assert set() == foreign(imported_by("import fastlimit"))


# Each takes as long as a good part of fastlimit itself.
SLOW = {"asyncio", "dataclasses", "inspect", "logging", "subprocess"}


def test_importing_the_engine_brings_in_nothing_slow() -> None:
    assert set() == SLOW & imported_by("import fastlimit")


def test_a_slow_import_would_be_seen() -> None:
    assert {"dataclasses", "inspect"} <= SLOW & imported_by("import fastlimit, dataclasses")


def test_a_foreign_import_would_be_seen() -> None:
    assert {"pytest"} <= foreign(imported_by("import fastlimit, pytest"))


def test_the_limiter_runs_without_sync() -> None:
    assert (
        "fastlimit.sync" not in fresh_interpreter("import fastlimit, sys; print(*sys.modules)").stdout.split()
    )


def surface_gaps(namespace: dict[str, Any]) -> set[str]:
    """Public names that `__all__` lacks, and names in it that do not exist."""
    public = {
        name
        for name, value in namespace.items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and name != "annotations"
    }
    return public ^ {name for name in namespace["__all__"] if not name.startswith("__")}


def test_the_public_surface_is_complete() -> None:
    import fastlimit

    assert set() == surface_gaps(vars(fastlimit))


def test_a_gap_in_the_surface_would_be_seen() -> None:
    assert {"forgotten", "gone"} == surface_gaps({"__all__": ["here", "gone"], "here": 1, "forgotten": 2})
