"""Reading a log for `fastlimit replay`: what it makes of any kind of line, file, time and column."""

from __future__ import annotations

import gzip
import random
from io import BufferedReader, BytesIO
from typing import Any

import pytest

from fastlimit.replay.log import Log, read_stream
from fastlimit.replay.readers import CannotReplay, Columns
from fastlimit.replay.times import parse_time

SECOND = 10**9


def log_of(text: str | bytes, log_format: str = "auto", **columns: Any) -> Log:
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    return read_stream("log", BufferedReader(BytesIO(raw)), Columns(**columns), log_format)


def rows_of(log: Log) -> list[tuple[int, str, int]]:
    trace = log.trace
    costs = trace.costs or [1] * len(trace)
    return [
        (time, trace.names[key], cost) for time, key, cost in zip(trace.times, trace.keys, costs, strict=True)
    ]


COMBINED = (
    '2001:db8::7 - frank [10/Oct/2000:13:55:36 -0700] "POST /a/b?q=\\"x\\" HTTP/1.0" 404 2326'
    ' "http://example.com/\\"q\\"" "agent \\"7\\" [en]"'
)
COMMON = COMBINED[: COMBINED.index(' "http')]
AT = 971_211_336 * SECOND  # date -d "2000-10-10 13:55:36 -0700" +%s


@pytest.mark.parametrize("line", [COMMON, COMBINED])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        (None, "2001:db8::7"),
        ("client", "2001:db8::7"),
        ("user", "frank"),
        ("method", "POST"),
        ("path", "/a/b"),
        ("request", 'POST /a/b?q=\\"x\\" HTTP/1.0'),
        ("status", "404"),
        ("all", "all"),
    ],
)
def test_fields_of_an_access_log(line: str, field: str | None, value: str) -> None:
    assert [(AT, value, 1)] == rows_of(log_of(line, key=field))


def test_fields_that_only_the_combined_format_has() -> None:
    assert [(AT, 'agent \\"7\\" [en]', 1)] == rows_of(log_of(COMBINED, key="agent"))
    assert [(AT, 'http://example.com/\\"q\\"', 1)] == rows_of(log_of(COMBINED, key="referer"))
    log = log_of(COMMON, key="agent")
    assert (0, 1, "no agent") == (len(log.trace), log.unreadable, log.bad_lines[0].reason)


def test_size_can_be_a_cost() -> None:
    no_body = COMMON.replace("2326", "-")
    log = log_of(f"{COMMON}\n{no_body}", cost=("size",))
    assert [(AT, "2001:db8::7", 2326), (AT, "2001:db8::7", 0)] == rows_of(log)


@pytest.mark.parametrize(
    "request_text", ["-", "", "\\x16\\x03\\x01", "GET", 'GET /\\" HTTP/1.1', "\\\\"], ids=ascii
)
def test_requests_that_are_none_still_count(request_text: str) -> None:
    line = f'1.2.3.4 - a b c [10/Oct/2000:13:55:36 -0700] "{request_text}" 408 - "-" "-"'
    assert [(AT, "1.2.3.4", 1)] == rows_of(log_of(line))
    assert 1 == len(log_of(line, key="path").trace)


def test_an_agent_cut_off_in_the_middle_does_not_lose_the_request() -> None:
    assert [(AT, "2001:db8::7", 1)] == rows_of(log_of(COMBINED.removesuffix(' [en]"')))


BAD_LINES = {
    "": "not in the common",
    "hello": "not in the common",
    "\x00\x01\x02\x80\xff": "not in the common",
    COMMON.replace('"', ""): "not in the common",
    COMMON.replace("10/Oct", "31/Feb"): "no calendar",
    COMMON.replace("Oct", "Foo"): "no calendar",
    COMMON.replace("-0700", "-9900"): "no calendar",
    COMMON.replace("2000", "1969"): "before 1970",
    COMMON.replace("/2000:", "/99:"): "not a time",
    "x" * 5_000 + COMMON: "longer than 4,096 bytes",
    "x" * 70_000 + COMMON: "longer than 65,536 bytes",
}


@pytest.mark.parametrize(("line", "reason"), BAD_LINES.items(), ids=range(len(BAD_LINES)))
def test_an_unreadable_line_is_counted_shown_and_skipped(line: str, reason: str) -> None:
    log = log_of(f"{COMMON}\n{line or 'x'}\n\n{COMMON}\n")
    assert (2, 1) == (len(log.trace), log.unreadable)
    assert 2 == log.bad_lines[0].number
    assert reason in log.bad_lines[0].reason


def test_only_the_first_unreadable_lines_are_kept() -> None:
    log = log_of("junk\n" * 1_000 + COMMON, log_format="apache")
    assert (1_000, 5, 1) == (log.unreadable, len(log.bad_lines), len(log.trace))
    assert [1, 2, 3, 4, 5] == [bad.number for bad in log.bad_lines]


def test_bytes_that_are_no_utf8_make_different_keys() -> None:
    line = COMMON.encode()
    log = log_of(line.replace(b"frank", b"\xff") + b"\n" + line.replace(b"frank", b"\xfe"), key="user")
    assert ["\udcff", "\udcfe"] == log.trace.names


def test_binary_junk_is_never_fatal() -> None:
    log = log_of(random.Random(3).randbytes(300_000))
    assert 0 == len(log.trace)
    assert log.unreadable > 100


@pytest.mark.parametrize("text", ["", "\n\n \n"])
def test_an_empty_log_is_an_empty_trace(text: str) -> None:
    log = log_of(text)
    assert (0, 0) == (len(log.trace), log.unreadable)


def test_gzip_is_known_by_its_content_and_may_break_off() -> None:
    packed = gzip.compress("".join(f"{COMMON} {number}\n" for number in range(20_000)).encode())
    whole, cut, corrupt = log_of(packed), log_of(packed[: len(packed) // 2]), log_of(packed[:-8] + b"\0" * 8)
    assert (20_000, None) == (len(whole.trace), whole.cut_short)
    assert 0 < len(cut.trace) < 20_000
    assert "break off" in str(cut.cut_short)
    assert "break off" in str(corrupt.cut_short)


SAME_INSTANT = [
    "1700158623.97996",
    "2023-11-16 18:17:03.9799600",
    "2023-11-16T18:17:03.97996Z",
    "2023-11-16T19:17:03,97996+01:00",
    "2023-11-16T13:17:03.979960000999-0500",
    "16/Nov/2023:18:17:03.97996 +0000",
]


@pytest.mark.parametrize("text", SAME_INSTANT)
def test_times(text: str) -> None:
    assert 1_700_158_623_979_960_000 == parse_time(text)


NO_TIMES = [
    "",
    "x",
    "-1",
    "1e9",
    "1,5",
    "nan",
    "1700158623979960000",
    "2023-11-16",
    "2023-13-01 00:00",
    "\u0663",
]
NO_TIMES += ["1969-12-31 23:59", "2300-01-01 00:00", "2023-11-16 18:17:03+25:00", "2023-11-16 18:60:00"]


@pytest.mark.parametrize("text", NO_TIMES)
def test_texts_that_are_no_times(text: str) -> None:
    with pytest.raises(ValueError, match="time"):
        parse_time(text)


@pytest.mark.parametrize(
    "text",
    [
        "time,key,cost\n1,a,2\n1.5,b,3\n",
        "\ufeffTime;Key;Cost\r\n1;a;2\r\n1.5;b;3\r\n",
        "key\ttimestamp\textra\tcost\na\t1\t\t2\nb\t1.5\t\t3\n",
        '"time","key","cost"\n"1","a"," 2 "\n1.5,"b",3\n',
        "1,a,2\n1.5,b,3\n",
    ],
)
def test_csv_is_recognized_with_its_delimiter_and_header(text: str) -> None:
    log = log_of(text)
    assert [(SECOND, "a", 2), (3 * SECOND // 2, "b", 3)] == rows_of(log)
    assert ("CSV", ("cost",)) == (log.format, tuple(name.lower() for name in log.cost))


def test_csv_columns_can_be_named() -> None:
    text = "at,tenant,in,out,time\n1,a,2,3,9\n2,b,4,5,9\n"
    assert [(SECOND, "a", 5), (2 * SECOND, "b", 9)] == rows_of(
        log_of(text, time="at", key="tenant", cost=("in", "out"))
    )
    assert [(9 * SECOND, "all", 1)] * 2 == rows_of(log_of(text))
    assert [(9 * SECOND, "all", 1)] * 2 == rows_of(log_of(text, key="all"))


@pytest.mark.parametrize("cost", ["", "-1", "1.0", "x", "\u0663", str(2**63), "9" * 20, "NaN", "True"])
def test_a_cost_that_is_none_makes_a_line_unreadable(cost: str) -> None:
    log = log_of(f"time,cost\n1,{cost}\n2,7\n")
    assert [(2 * SECOND, "all", 7)] == rows_of(log)
    assert (2, True) == (log.bad_lines[0].number, "cost" in log.bad_lines[0].reason)


@pytest.mark.parametrize("line", ["1", 'x"y', '1,"a', '1,"a"b,2', "yesterday,a,1", f"1,{'k' * 5_000},1"])
def test_a_bad_line_of_csv_costs_one_line(line: str) -> None:
    log = log_of(f"time,key,cost\n{line}\n2,a,7\n")
    assert ([(2 * SECOND, "a", 7)], 1) == (rows_of(log), log.unreadable)


@pytest.mark.parametrize(
    ("text", "log_format", "columns", "message"),
    [
        (COMMON, "auto", {"key": "tenant"}, "no field 'tenant'"),
        (COMMON, "auto", {"cost": ("size", "bytes")}, "no field 'bytes'"),
        (COMMON, "auto", {"time": "at"}, "--time is for CSV"),
        ("time,key\n1,a", "auto", {"key": "tenant"}, "no column 'tenant'; it has time, key"),
        ("time,key\n1,a", "auto", {"cost": ("n",)}, "no column 'n'"),
        ("at,key\n1,a", "csv", {}, "--time COLUMN"),
        ("at,key\n1,a", "csv", {"time": "when"}, "no column 'when'"),
        ('"at,key\n1,a', "csv", {}, "header"),
    ],
)
def test_columns_that_are_not_there(
    text: str, log_format: str, columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(CannotReplay, match=message):
        log_of(text, log_format, **columns)
