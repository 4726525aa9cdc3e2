"""The command line: what a user sees, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastlimit.cli import main
from fastlimit.replay.demo import worst_window
from fastlimit.replay.screen import bars, printable, span_text
from fastlimit.replay.trace import TraceBuilder

LINE = '{client} - - [10/Oct/2000:13:55:{second:02d} -0700] "GET / HTTP/1.0" 200 1\n'


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "access.log"
    lines = [LINE.format(client="192.0.2.1", second=second) for second in range(40)]
    lines += [LINE.format(client=r"\x1b[31m[red]evil", second=second) for second in range(20)]
    path.write_text("".join(lines).replace(r"\x1b", "\x1b") + "junk \x1b]0;title\x07\n")
    return path


def test_replay_shows_limits_side_by_side(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = ["--limit", "10/minute", "--limit", "fixed-window 30/minute"]
    assert 0 == main(["replay", str(log), *limits, "--top", "1"])
    screen = capsys.readouterr().out
    assert "access.log: 60 requests, 2 keys (client), access log" in screen
    assert "2000-10-10 20:55:00 to 20:55:39 UTC" in screen
    assert "lines out of order: 1 " in screen
    assert "line 61: not in the common or combined log format" in screen
    rows = [line.split() for line in screen.splitlines()]
    assert ["10/minute", "29", "31", "51.7", "%", "2"] in [row[:6] for row in rows]
    assert ["fixed-window", "30/minute", "50", "10", "16.7", "%", "1"] in [row[:7] for row in rows]
    assert ["192.0.2.1", "40", "24", "10"] in rows
    assert "evil" not in screen.split("top offenders")[1]
    assert "each column 1 s, the highest 2 requests" in screen


def test_nothing_in_a_log_reaches_the_terminal_raw(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == main(["replay", str(log), "--limit", "10/minute"])
    screen = capsys.readouterr().out
    assert r"\x1b[31m[red]evil" in screen
    assert "\x1b" not in screen
    assert "\x07" not in screen


def test_json_needs_no_rich(
    log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert 0 == main(["replay", str(log), "--limit", "10/minute", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert (60, 1) == (report["log"]["requests"], report["log"]["unreadable"])
    assert "2000-10-10T20:55:00Z" == report["log"]["first"]
    assert report["limits"][0]["decisions_per_second"] > 0


def test_the_command_line_itself_imports_no_rich() -> None:
    code = "import sys, fastlimit.cli; sys.exit('rich' in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode


@pytest.mark.parametrize("command", [["replay", "missing.log", "--limit", "1/s"], ["demo"]])
def test_tables_without_rich_name_the_extra(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert 2 == main(command)
    out, err = capsys.readouterr()
    assert "" == out
    assert 1 == err.count("\n")
    assert "fastlimit-engine[cli]" in err


def test_a_wrong_limit_is_pointed_at(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert 2 == main(["replay", str(log), "--limit", "60/minute", "--limit", "60/minuet"])
    out, err = capsys.readouterr()
    assert "" == out
    assert err.startswith("fastlimit replay: ")
    assert "60/minuet" in err
    assert "^" in err


@pytest.mark.parametrize("name", ["missing.log", "."])
@pytest.mark.parametrize("command", [["replay", "--limit", "1/s"], ["demo", "--log"]])
def test_a_log_that_cannot_be_opened(
    command: list[str], name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / name)
    assert 2 == main([*command, path])
    assert f"cannot read {path}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["replay"],
        ["replay", "x"],
        ["replay", "x", "--limit", "1/s", "--top", "-1"],
        ["demo", "--seed", "x"],
    ],
)
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert 2 == exit_.value.code
    assert "usage: fastlimit" in capsys.readouterr().err


def test_a_column_that_is_not_there(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert 2 == main(["replay", str(log), "--limit", "1/s", "--key", "tenant"])
    assert "no field 'tenant'; it has client" in capsys.readouterr().err


def test_nothing_to_replay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "junk.log"
    path.write_bytes(bytes(range(256)) * 40)
    assert 0 == main(["replay", str(path), "--limit", "1/s"])
    screen = capsys.readouterr().out
    assert "0 requests" in screen
    assert "unreadable lines: " in screen
    assert "nothing to replay" in screen
    assert 0 == main(["replay", str(path), "--limit", "1/s", "--json"])
    assert 0 == json.loads(capsys.readouterr().out)["limits"][0]["allowed"]
    assert 2 == main(["demo", "--log", str(path)])
    assert "no request that can be read" in capsys.readouterr().err


def test_standard_input(
    log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with log.open() as opened:
        monkeypatch.setattr(sys, "stdin", opened)
        assert 0 == main(["replay", "-", "--limit", "10/minute", "--json"])
    assert 60 == json.loads(capsys.readouterr().out)["log"]["requests"]


def test_interrupted(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fastlimit.cli.read_log", interrupt)
    assert 130 == main(["replay", str(log), "--limit", "1/s", "--json"])


@pytest.mark.parametrize("extra", [["--json"], []])
def test_a_reader_that_goes_away_ends_it_quietly(log: Path, extra: list[str]) -> None:
    """As by `| head -0`: the pipe's other end is closed before anything is written."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "fastlimit", "replay", str(log), "--limit", "1/s", *extra]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writing)
    assert (1, b"") == (done.returncode, done.stderr)


def test_an_ascii_terminal_gets_no_traceback(log: Path) -> None:
    command = [sys.executable, "-m", "fastlimit", "replay", str(log), "--limit", "10/minute"]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, timeout=60, check=True
    )
    assert b"" == done.stderr
    assert b"denied by 10/minute            " in done.stdout
    assert b"@" in done.stdout


def test_demo_fits_a_screen_and_compares_the_algorithms(capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == main(["demo", "--seed", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines[:-1])) <= 80  # the last names the interpreter, wherever it is
    assert "--seed 3" in lines[0]
    rows = [line.split() for line in lines[lines.index("") + 4 :][:4]]
    numbers = {name: [int(word.replace(",", "")) for word in row[:5]] for name, *row in rows}
    assert ["token-bucket", "leaky-bucket", "fixed-window", "sliding-window"] == list(numbers)
    worst = {name: row[4] for name, row in numbers.items()}
    for allowed, denied, abuser, honest, _ in numbers.values():
        assert allowed > denied > abuser > honest > 0
    assert 600 == worst["leaky-bucket"]
    assert (
        worst["leaky-bucket"]
        < worst["sliding-window"]
        < worst["token-bucket"]
        < worst["fixed-window"]
        <= 1_200
    )
    assert "-m fastlimit demo --log ACCESS_LOG" in lines[-1]


def test_demo_on_a_log_fits_its_rate_to_the_log(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == main(["demo", "--log", str(log)])
    screen = capsys.readouterr().out
    assert "the busiest: 192.0.2.1, 40 requests" in screen
    assert "each client is allowed 20/minute" in screen
    assert 0 == main(["demo", "--log", str(log), "--rate", "5/s"])
    assert "each client is allowed 5/s" in capsys.readouterr().out


def test_demo_on_costs_that_no_limit_grants(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "costs.csv"
    path.write_text("time,key,cost\n1,a,7\n2,a,7\n")
    assert 0 == main(["demo", "--log", str(path), "--rate", "5/s"])
    assert "the busiest: a, 2 requests" in capsys.readouterr().out


@pytest.mark.parametrize("rate", ["fast", "10/month", "10/s; 5/s", "sliding-window 10/s"])
def test_demo_refuses_a_wrong_rate(rate: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert 2 == main(["demo", "--rate", rate])
    assert rate in capsys.readouterr().err


def test_worst_window_counts_what_went_out_within_any_window() -> None:
    requests = TraceBuilder()
    for time_ns, key in [(0, "a"), (10, "a"), (19, "a"), (20, "b"), (30, "a")]:
        requests.add(time_ns, key, 2)
    trace = requests.finish()
    assert 4 == worst_window(trace, bytes([1] * 5), [0] * 5, 11)
    assert 6 == worst_window(trace, bytes([1] * 5), [0] * 5, 22)
    assert 2 == worst_window(trace, bytes([1, 0, 0, 1, 1]), [0] * 5, 22)
    assert 4 == worst_window(trace, bytes([1] * 5), [0, 0, 11, 0, 15], 22)


def test_bars_show_every_count_above_zero() -> None:
    assert " ▁▁▄█" == bars([0, 1, 125, 500, 1_000], 1_000)
    assert "  " == bars([0, 0], 0)


@pytest.mark.parametrize(
    ("length", "text"), [(10**9, "1 s"), (90 * 10**9, "90 s"), (7_200 * 10**9, "2 h"), (5, "5 ns")]
)
def test_lengths_of_time_are_written_short(length: int, text: str) -> None:
    assert text == span_text(length)


def test_text_is_cut_and_made_printable() -> None:
    assert r"a\x00\udcff\u202eé" == printable("a\x00\udcff\u202eé")
    assert "aaaa…" == printable("a" * 9, 5)
