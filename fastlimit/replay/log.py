"""A log, read whole: from a file or standard input, plain or compressed by gzip, line by line."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from itertools import chain, islice

from .readers import AccessLog, CannotReplay, Columns, CsvFile, LineReader, Row, Unreadable, looks_like_csv
from .trace import Trace, TraceBuilder

FORMATS = ("auto", "apache", "csv")
GZIP_MAGIC = b"\x1f\x8b"
LONGEST_LINE = 65_536
SNIFFED_LINES = 50
SHOWN_LINES = 5
SHOWN_BYTES = 200
Line = tuple[int, bytes]


@dataclass(frozen=True)
class BadLine:
    number: int
    reason: str
    text: str


@dataclass
class Log:
    """The requests of a log in order of time, and what there is to say about it."""

    name: str
    format: str
    key: str
    cost: tuple[str, ...]
    trace: Trace = field(default_factory=Trace)
    out_of_order: int = 0
    """Lines earlier than the line before them."""
    unreadable: int = 0
    bad_lines: list[BadLine] = field(default_factory=list)
    """The first few of the unreadable ones."""
    cut_short: str | None = None
    """Why the file could not be read to its end, if so."""


def read_log(path: str, columns: Columns, log_format: str = "auto") -> Log:
    """The log at `path`, `-` for standard input; raises CannotReplay for a missing file or column."""
    try:
        if path == "-":
            with open(sys.stdin.fileno(), "rb", closefd=False) as stream:
                return read_stream("standard input", stream, columns, log_format)
        with open(path, "rb") as stream:
            return read_stream(path, stream, columns, log_format)
    except OSError as error:
        raise CannotReplay(f"cannot read {path}: {error.strerror or error}") from None


def read_stream(name: str, stream: BufferedReader, columns: Columns, log_format: str) -> Log:
    cuts: list[str] = []
    lines = until_cut(numbered_lines(unpacked(stream)), cuts)
    head = list(islice(lines, SNIFFED_LINES))
    reader, rest = reader_for(head, columns, log_format)
    log = Log(name, reader.format, reader.key, reader.cost)
    requests = TraceBuilder()
    for number, line in chain(rest, lines):
        try:
            requests.add(*read_line(reader, line))
        except Unreadable as reason:
            log.unreadable += 1
            if len(log.bad_lines) < SHOWN_LINES:
                log.bad_lines.append(BadLine(number, str(reason), decoded(line[:SHOWN_BYTES])))
    log.trace, log.out_of_order = requests.finish(), requests.out_of_order
    log.cut_short = "".join(cuts) or None
    return log


def read_line(reader: LineReader, line: bytes) -> Row:
    if len(line) > LONGEST_LINE:
        raise Unreadable(f"longer than {LONGEST_LINE:,} bytes")
    return reader.read(decoded(line))


def decoded(line: bytes) -> str:
    """UTF-8, with other bytes as lone surrogates, so that keys which differ stay different."""
    return line.decode("utf-8", "surrogateescape")


def unpacked(stream: BufferedReader) -> BufferedReader | gzip.GzipFile:
    return gzip.GzipFile(fileobj=stream) if stream.peek(2).startswith(GZIP_MAGIC) else stream


def numbered_lines(stream: BufferedReader | gzip.GzipFile) -> Iterator[Line]:
    """The lines that hold anything, numbered from 1; of one that is too long, just enough to tell."""
    number = 0
    while line := stream.readline(LONGEST_LINE + 1):
        number += 1
        rest = line
        while len(rest) > LONGEST_LINE and not rest.endswith(b"\n"):
            rest = stream.readline(LONGEST_LINE + 1)
        if not line.isspace():
            yield number, line.rstrip(b"\r\n")


def until_cut(lines: Iterator[Line], cuts: list[str]) -> Iterator[Line]:
    """The lines up to where a compressed stream breaks off; the reason goes to `cuts`."""
    try:
        yield from lines
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        cuts.append(f"the compressed data break off: {error}")


def reader_for(head: list[Line], columns: Columns, log_format: str) -> tuple[LineReader, list[Line]]:
    """A reader for a log that begins with these lines, and those of them that are not a header."""
    if not head:
        return AccessLog(Columns()), []
    first = decoded(head[0][1])
    if log_format == "auto":
        is_access_log = any(AccessLog.LINE.match(decoded(line)) for _, line in head)
        log_format = "csv" if not is_access_log and looks_like_csv(first, columns) else "apache"
    if log_format == "apache":
        return AccessLog(columns), head
    try:
        reader = CsvFile(first, columns)
    except Unreadable as reason:
        raise CannotReplay(f"the header of the CSV is unreadable: {reason}") from None
    return reader, head[reader.has_header :]
