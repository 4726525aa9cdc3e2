"""The documentation: its snippets run, its commands and places exist, its figures are the measured ones.

Every check is a function from a page to what it finds wrong there; each is shown to catch a planted fault.

A ```python block runs as it stands, the blocks of a page one after the other in one namespace. Two comments
behind a statement are promises: `# -> text` is the repr of the expression's value, `# raises Name` names the
exception. A ```cython block is compiled under the name in its first line, for the blocks after it to import.
In ```sh blocks and in running text, the arguments of our own commands are parsed by the parsers that would
get them. ```text is not looked at.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Literal

import pytest

import bench.__main__
import dev
from bench.report import number
from fastlimit import Limiter, cli
from fastlimit.replay import demo
from fastlimit.replay.figures import scale_of
from fastlimit.traffic import ABUSER, Traffic
from proofs.rows import PROOFS

ROOT = Path(dev.ROOT)
EVIDENCE = ROOT / "docs" / "evidence" / "bench.json"
LANGUAGES = {"python", "cython", "sh", "text"}
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROMISE = re.compile(r"# (?:(->) (.*\S)|(raises) (\w+)(?:: .*)?$)")
TOP_LEVEL = ("fastlimit", "tests", "bench", "docs", "examples", ".ci")
FILE = re.compile(r"[\w*{},-]+\.(?:py|pyx|pxd|pxi|pyi|md|toml|in|json|svg|txt)")
SOURCES = {".py", ".pyx", ".pxd", ".pxi"}
FOREIGN_COMMANDS = {"cat", "cd", "git", "zcat"}


@dataclass(frozen=True)
class Block:
    language: str
    line: int
    """Of the page, on which its first line stands."""
    text: str


@dataclass(frozen=True)
class Page:
    path: str
    """Relative to the checkout."""
    text: str

    @cached_property
    def blocks(self) -> list[Block]:
        return [
            Block(match[1], self.text.count("\n", 0, match.start(2)) + 1, match[2])
            for match in FENCE.finditer(self.text)
        ]

    @cached_property
    def prose(self) -> str:
        return FENCE.sub("", self.text)

    @cached_property
    def spans(self) -> list[str]:
        """What stands between backticks in running text."""
        return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", self.prose)]

    @cached_property
    def anchors(self) -> set[str]:
        """As GitHub makes them from headings."""
        headings = re.findall(r"^#+ (.*)$", self.prose, re.MULTILINE)
        return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def page_at(path: Path) -> Page:
    return Page(path.relative_to(ROOT).as_posix(), path.read_text("utf-8"))


PAGES = [page_at(path) for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])]
Findings = Iterator[str]


# --- snippets


def snippets_run(page: Page, folder: Path) -> Findings:
    """Runs the page's Python, with its Cython compiled in `folder`; stops at the first block that breaks."""
    names: dict[str, Any] = {"__name__": "__docs__"}
    for block in page.blocks:
        if block.language not in LANGUAGES:
            yield f"{page.path}:{block.line}: a block in {block.language or 'no language'}"
        elif block.language == "cython":
            compile_module(block.text, folder)
        elif block.language == "python":
            found = list(broken_promises(page, block, names))
            yield from found
            if found:
                return


def broken_promises(page: Page, block: Block, names: dict[str, Any]) -> Findings:
    """Runs one block in `names`, statement by statement."""
    try:
        tree = ast.parse("\n" * (block.line - 1) + block.text, page.path)
    except SyntaxError as error:
        yield f"{page.path}:{error.lineno}: {error.msg}"
        return
    promises = promises_in(block)
    for statement in tree.body:
        promise = promises.pop(statement.end_lineno or 0, "")
        outcome, detail = outcome_of(statement, page.path, names)
        if outcome != promise and (promise or outcome.startswith("raises ")):
            instead = promise or "no exception"
            yield f"{page.path}:{statement.lineno}: {outcome or 'no value'} instead of {instead} {detail}"
    yield from (f"{page.path}:{line}: a promise behind no statement" for line in promises)


def promises_in(block: Block) -> dict[int, str]:
    """`-> repr` or `raises Name`, by line of the page."""
    promises = {}
    for token in tokenize.generate_tokens(io.StringIO(block.text).readline):
        if match := PROMISE.match(token.string) if token.type == tokenize.COMMENT else None:
            promises[token.start[0] + block.line - 1] = " ".join(filter(None, match.groups()))
    return promises


def outcome_of(statement: ast.stmt, path: str, names: dict[str, Any]) -> tuple[str, str]:
    """What a statement does, in the words of a promise, and the message of what it raises."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            if isinstance(statement, ast.Expr):
                value = eval(compile(ast.Expression(statement.value), path, "eval"), names)
                return "" if value is None else f"-> {value!r}", ""
            exec(compile(ast.Module([statement], []), path, "exec"), names)
    except Exception as error:
        return f"raises {type(error).__name__}", f"({error})"
    return "", ""


def compile_module(text: str, folder: Path) -> None:
    name = re.match(r"# (\w+\.pyx)\n", text)
    assert name is not None, "a block of Cython says in its first line what module it is"
    (folder / name[1]).write_text(text)
    command = [sys.executable, "-m", "Cython.Build.Cythonize", "--inplace", "-3", name[1]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def with_snippets(page: Page) -> bool:
    return any(block.language != "text" for block in page.blocks)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_snippets_run(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    assert [] == list(snippets_run(page, tmp_path))


def test_readme_and_guide_have_snippets() -> None:
    assert {"README.md", "docs/guide.md"} <= {page.path for page in PAGES if with_snippets(page)}


def python_page(*lines: str) -> Page:
    return Page("planted.md", "\n".join(["# Title", "", "```python", *lines, "```", ""]))


@pytest.mark.parametrize(
    ("page", "finding"),
    [
        (python_page("1 + 1  # -> 3"), "4: -> 2 instead of -> 3"),
        (python_page("x = 1", "x.y"), "5: raises AttributeError instead of no exception"),
        (python_page("x = 1  # -> 1"), "4: no value instead of -> 1"),
        (python_page("int('1')  # raises ValueError: a word"), "4: -> 1 instead of raises ValueError"),
        (python_page("int('a')  # raises TypeError"), "4: raises ValueError instead of raises TypeError"),
        (python_page("int('a')  # -> 1"), "4: raises ValueError instead of -> 1"),
        (python_page("def f():", "    x = 1  # -> 2", "    return x"), "5: a promise behind no statement"),
        (python_page("def f(:"), "4: invalid syntax"),
        (Page("planted.md", "```ruby\nputs 1\n```\n"), "2: a block in ruby"),
    ],
)
def test_a_broken_snippet_is_reported(page: Page, finding: str, tmp_path: Path) -> None:
    assert any(finding in found for found in snippets_run(page, tmp_path))


def test_snippets_that_keep_their_promises_pass(tmp_path: Path) -> None:
    page = python_page(
        "print('seen by nobody')", "x = 'a'", "x * 2  # -> 'aa'", "int(x)  # raises ValueError: a word"
    )
    assert [] == list(snippets_run(page, tmp_path))


# --- commands


def commands_exist(page: Page) -> Findings:
    lines = [line for block in page.blocks if block.language == "sh" for line in block.text.splitlines()]
    spans = [span for span in page.spans if span.startswith(("python3 ", "fastlimit ", "pip "))]
    mentions = [f"{span} --help" if re.fullmatch(r"fastlimit \w+", span) else span for span in spans]
    for line in filter(None, [*lines, *mentions]):
        for command in line.split(" | "):
            fault = fault_of(shlex.split(command, comments=True))
            if fault:
                yield f"{command.strip()}: {fault}"


def fault_of(words: list[str]) -> str:
    """What is wrong with a command, empty if nothing is."""
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    match words:
        case []:
            return ""
        case ["python3", "dev.py", name, *arguments]:
            return fault_of_dev(name, arguments)
        case ["fastlimit", *arguments] | ["python3", "-m", "fastlimit", *arguments]:
            return rejected_by(cli.build_parser().parse_args, arguments)
        case ["python3", "-m", "pip", "install", "." | "fastlimit-engine" | "fastlimit-engine[cli]"]:
            return ""
        case [name, *_] if name in FOREIGN_COMMANDS or (ROOT / name).is_file():
            return ""
    return "an unknown command"


def fault_of_dev(name: str, arguments: list[str]) -> str:
    match name:
        case "demo":
            return rejected_by(cli.build_parser().parse_args, ["demo", *arguments])
        case "bench":
            return rejected_by(bench.__main__.arguments, arguments)
        case "verify":
            known = {"--quick", "--full", *(proof.name for proof in PROOFS)}
            return "" if set(arguments) <= known else f"no such arguments: {arguments}"
    return "" if name in dev.COMMANDS else f"no command {name}"


def rejected_by(parse: Callable[[list[str]], object], arguments: list[str]) -> str:
    words = io.StringIO()
    try:
        with contextlib.redirect_stderr(words), contextlib.redirect_stdout(io.StringIO()):
            parse(arguments)
    except SystemExit as end:
        return words.getvalue().strip().rpartition("\n")[2] if end.code else ""
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_commands_exist(page: Page) -> None:
    assert [] == list(commands_exist(page))


@pytest.mark.parametrize(
    "text",
    [
        "```sh\npython3 dev.py dance\n```\n",
        "```sh\nzcat a.gz | fastlimit replay\n```\n",
        "```sh\nfastlimit replay a.log --limit 1/s --colour\n```\n",
        "```sh\nmake all\n```\n",
        "type `python3 dev.py bench --fast`",
        "type `python3 dev.py verify --slow`",
        "type `pip install nothing`",
    ],
)
def test_a_command_that_does_not_exist_is_reported(text: str) -> None:
    assert 1 == len(list(commands_exist(Page("planted.md", text))))


# --- places and names


def expanded(pattern: str) -> list[str]:
    """`a.{py,pxd}` as `a.py` and `a.pxd`."""
    parts = [part.split(",") for part in re.split(r"[{}]", pattern)]
    choices = [part if place % 2 else [",".join(part)] for place, part in enumerate(parts)]
    return ["".join(choice) for choice in product(*choices)]


def is_place(span: str) -> bool:
    """NAME stands for a name that is up to the reader."""
    in_tree = "/" in span and " " not in span and span.partition("/")[0] in TOP_LEVEL
    return (in_tree or FILE.fullmatch(span) is not None) and "NAME" not in span


def places_of(span: str) -> list[Path]:
    """The files that a span names: from the top, or a bare name anywhere below."""
    names = [name.rstrip("/") for name in expanded(span)]
    below = [f"{folder}/**/{name}" for folder in TOP_LEVEL for name in names if "/" not in name]
    return [path for pattern in [*names, *below] for path in ROOT.glob(pattern)]


def places_exist(page: Page) -> Findings:
    for target in re.findall(r"\]\(([^)]+)\)", page.prose):
        place, _, anchor = target.partition("#")
        path = (ROOT / page.path).parent / place if place else ROOT / page.path
        if not path.exists():
            yield f"a link to {target}"
        elif anchor and anchor not in (page if not place else page_at(path.resolve())).anchors:
            yield f"a link to {target}, which has no such heading"
    for span in page.spans:
        if is_place(span) and not all(places_of(name) for name in expanded(span)):
            yield f"a file {span}"


def code() -> str:
    paths = [path for folder in ("fastlimit", "bench", "tests") for path in (ROOT / folder).rglob("*.p*")]
    sources = [path for path in paths if path.suffix in SOURCES and path != Path(__file__)]
    return "\n".join(path.read_text("utf-8") for path in [*sources, ROOT / "dev.py"])


CODE = code()


def functions_exist(page: Page) -> Findings:
    """Of spans such as `settle_claim()` and `Limiter.allow()`."""
    for span in page.spans:
        if match := re.fullmatch(r"(?:\w+\.)*(\w+)\(\)", span):
            defined = rf"(?:(?:def|class) |cdef [^(\n]*[ *]){match[1]}\(|^ +[\w *]+[ *]{match[1]} \"\w+\"\("
            if not re.search(defined, CODE, re.MULTILINE):
                yield f"a function {span}"


@pytest.mark.parametrize("check", [places_exist, functions_exist], ids=lambda check: check.__name__)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_what_is_named_exists(page: Page, check: Callable[[Page], Findings]) -> None:
    assert [] == list(check(page))


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (places_exist, "[there](docs/nowhere.md)"),
        (places_exist, "[there](README.md#no-such-heading)"),
        (places_exist, "[below](#no-such-heading)"),
        (places_exist, "in `fastlimit/nowhere.py`"),
        (places_exist, "in `fastlimit/algorithms/token_bucket.{py,lua}`"),
        (places_exist, "in `nowhere.pxd`"),
        (functions_exist, "by `kill_everybody()`"),
        (functions_exist, "by `Limiter.deny()`"),
    ],
)
def test_what_does_not_exist_is_reported(check: Callable[[Page], Findings], text: str) -> None:
    assert 1 == len(list(check(Page("planted.md", text))))


def unmapped(page: Page) -> list[str]:
    """Sources that a map does not name."""
    named = {path.resolve() for span in page.spans if is_place(span) for path in places_of(span)}
    sources = [path for folder in ("fastlimit", "bench") for path in (ROOT / folder).rglob("*")]
    return [
        path.relative_to(ROOT).as_posix()
        for path in sorted(sources)
        if path.suffix in {*SOURCES, ".pyi"} and path.stem != "__init__" and path not in named
    ]


def test_the_map_is_complete() -> None:
    assert [] == unmapped(page_at(ROOT / "ARCHITECTURE.md"))


def test_a_gap_in_the_map_would_be_seen() -> None:
    assert "fastlimit/rates.py" in unmapped(Page("planted.md", "`fastlimit/limits.py` and `bench/*.py`"))


# --- figures


def table_row(row: dict[str, Any]) -> str:
    """One row of docs/evidence/bench.json as README shows it; rows without a figure have none to show."""
    value, ratio = row["value"], row["ratio"]
    cells = (
        row["what"],
        f"{number(value['median'])} {row['unit']}".strip() if value else "-",
        f"{number(ratio['median'])} x {row['against']}" if ratio else "",
        row["target"],
    )
    return f"| {' | '.join(cells)} |"


def wrong_figures(readme: str, evidence: str | None) -> list[str]:
    """Rows of README's table that the evidence does not hold; without evidence every row is one."""
    section = re.search(r"<!-- bench -->(.*)<!-- /bench -->", readme, re.DOTALL)
    assert section is not None
    shown = re.findall(r"^\| (?!what).*$", section[1], re.MULTILINE)
    if evidence is None:
        return shown
    measured = {table_row(row) for rows in json.loads(evidence)["rows"].values() for row in rows}
    return [row for row in shown if row not in measured] if shown else ["no table"]


def test_readme_shows_the_measured_figures() -> None:
    evidence = EVIDENCE.read_text("utf-8") if EVIDENCE.exists() else None
    assert [] == wrong_figures((ROOT / "README.md").read_text("utf-8"), evidence)


def test_a_figure_that_was_not_measured_is_reported() -> None:
    row = {"what": "allow", "unit": "ns", "value": {"median": 31.04}, "ratio": None, "target": "<= 40 ns"}
    evidence = json.dumps({"rows": {"hot": [row]}})
    section = "<!-- bench -->\n| what | median |\n|---|---|\n| allow | {} ns |  | <= 40 ns |\n<!-- /bench -->"
    assert [] == wrong_figures(section.format("31.0"), evidence)
    assert ["| allow | 13.0 ns |  | <= 40 ns |"] == wrong_figures(section.format("13.0"), evidence)
    assert [] != wrong_figures(section.format("31.0"), None)
    assert ["no table"] == wrong_figures("<!-- bench --><!-- /bench -->", evidence)


def test_readme_shows_what_the_demo_finds() -> None:
    log = demo.generated(Traffic())
    scale, suspect = scale_of(log.trace), log.trace.names.index(ABUSER)
    found = [
        demo.contend(log.trace, algorithm, demo.GENERATED_RATE, suspect, scale).worst_window
        for algorithm in demo.ALGORITHMS
    ]
    row = f"at 600/minute | {' | '.join(f'{worst:,}' for worst in found)} |"
    assert row in (ROOT / "README.md").read_text("utf-8")
    assert demo.GENERATED_RATE in row


@pytest.mark.parametrize(
    ("share_of_max_keys", "when_full", "least", "most"),
    [
        (1.0, "deny", 500, 1_250),  # one in 1,200: 833
        (0.9, "deny", 50, 200),  # one in 9,000: 111
        (0.7, "deny", 0, 10),  # one in 2.5 million
        (1.0, "share", 80_000, 160_000),  # about 12 %
        (0.5, "share", 0, 0),
    ],
)
def test_refused_first_calls_are_as_many_as_the_guide_says(
    share_of_max_keys: float, when_full: Literal["share", "deny"], least: int, most: int
) -> None:
    keys = 1_000_000
    limiter = Limiter("1/day", max_keys=int(keys / share_of_max_keys), when_full=when_full)
    refused = limiter.allow_many([f"user:{number}" for number in range(keys)]).count(0)
    print(f"{when_full}, {share_of_max_keys:.0%} of max_keys in use: {refused:,} of {keys:,} refused")
    assert least <= refused <= most
