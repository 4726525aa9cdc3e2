"""One line of a log as (time, key, cost): access logs in Apache's common and combined format, and CSV."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .times import parse_time

ONE_KEY = "all"
LONGEST_KEY = 4_096
MAX_COST = 2**63 - 1
Row = tuple[int, str, int]


class Unreadable(Exception):
    """A line that is no request; the message says why."""


class CannotReplay(Exception):
    """What was asked for cannot be done; the message is for the user."""


@dataclass(frozen=True)
class Columns:
    """Which fields of a log to use; None and () stand for those of the log's format."""

    key: str | None = None
    cost: tuple[str, ...] = ()
    time: str | None = None


class LineReader(Protocol):
    """Reads the lines of one format; raises Unreadable for those it cannot."""

    format: str
    key: str
    cost: tuple[str, ...]

    def read(self, line: str) -> Row: ...


def checked_time(text: str) -> int:
    try:
        return parse_time(text)
    except ValueError as error:
        raise Unreadable(str(error)) from None


def checked_key(key: str) -> str:
    if len(key) * 4 > LONGEST_KEY and len(key.encode("utf-8", "surrogatepass")) > LONGEST_KEY:
        raise Unreadable(f"a key longer than {LONGEST_KEY:,} bytes")
    return key


def checked_cost(fields: Sequence[str]) -> int:
    total = 0
    for field in fields:
        digits = field.strip()
        if not (digits.isascii() and digits.isdigit() and len(digits) <= len(str(MAX_COST))):
            raise Unreadable("a cost that is no whole number from 0 to 2^63 - 1")
        total += int(digits)
    if total > MAX_COST:
        raise Unreadable("a cost above 2^63 - 1")
    return total


class AccessLog:
    """Apache's common log format, or combined: with referer and agent too. What follows is ignored.

    Source: Apache HTTP Server, "Log Files", access log. A backslash escapes quotes inside quoted fields.
    """

    format = "access log"
    LINE = re.compile(
        r"(?P<client>\S+) (?P<ident>\S+) (?P<user>.+?) \[(?P<time>\d\d/[^\]]+)\]"
        r' "(?P<request>[^"\\]*(?:\\.[^"\\]*)*)" (?P<status>\d{3}|-) (?P<size>\d+|-)'
        r'(?: "(?P<referer>[^"\\]*(?:\\.[^"\\]*)*)"(?: "(?P<agent>[^"\\]*(?:\\.[^"\\]*)*)")?)?',
        re.ASCII,
    )
    FIELDS = ("client", "ident", "user", "method", "path", "request", "status", "size", "referer", "agent")

    def __init__(self, columns: Columns) -> None:
        self.key = columns.key or "client"
        self.cost = columns.cost
        for name in (self.key, *self.cost):
            if name not in (*self.FIELDS, ONE_KEY):
                known = ", ".join(self.FIELDS)
                raise CannotReplay(f"an access log has no field {name!r}; it has {known}")
        if columns.time:
            raise CannotReplay("an access log says itself where its time is; --time is for CSV")

    def read(self, line: str) -> Row:
        found = self.LINE.match(line)
        if found is None:
            raise Unreadable("not in the common or combined log format")
        cost = checked_cost([self.value(found, name) for name in self.cost]) if self.cost else 1
        return checked_time(found["time"]), checked_key(self.value(found, self.key)), cost

    def value(self, found: re.Match[str], name: str) -> str:
        match name:
            case "all":
                return ONE_KEY
            case "method" | "path":
                method, _, rest = found["request"].partition(" ")
                return method if name == "method" else rest.partition(" ")[0].partition("?")[0] or "-"
            case "size" if found["size"] == "-":
                return "0"
        value: str | None = found[name]
        if value is None:
            raise Unreadable(f"no {name}")
        return value


class CsvFile:
    """Lines of separated values, one request in each, under a header that names the columns.

    Without a header, the columns are time, key and cost. A quoted field cannot go on in the next line: so one
    bad quote costs one line, and not the rest of the file.
    """

    format = "CSV"
    TIMES = ("time", "timestamp", "ts", "datetime", "date")
    UNNAMED = ("time", "key", "cost")

    def __init__(self, first: str, columns: Columns) -> None:
        self.delimiter = max(",;\t|", key=first.count)
        self.names = self.split(first.removeprefix("\ufeff"))
        self.has_header = not is_time(self.names[0])
        if not self.has_header:
            self.names = list(self.UNNAMED[: len(self.names)])
        self._time = self.find_time(columns.time)
        self._key = self.find_key(columns.key)
        self._costs = [self.find(name) for name in columns.cost or self.present("cost")]
        self.key = ONE_KEY if self._key is None else self.names[self._key]
        self.cost = tuple(self.names[at] for at in self._costs)

    def split(self, line: str) -> list[str]:
        try:
            fields = next(csv.reader([line], delimiter=self.delimiter, strict=True))
        except csv.Error as error:
            raise Unreadable(f"not CSV: {error}") from None
        return [field.strip() for field in fields]

    def present(self, *names: str) -> list[str]:
        have = [column.casefold() for column in self.names]
        return [name for name in names if name.casefold() in have]

    def find(self, name: str) -> int:
        if not self.present(name):
            raise CannotReplay(f"the CSV has no column {name!r}; it has {', '.join(self.names)}")
        return [column.casefold() for column in self.names].index(name.casefold())

    def find_time(self, name: str | None) -> int:
        names = [name] if name else self.present(*self.TIMES)
        if not names:
            known = ", ".join(self.names)
            raise CannotReplay(f"no column for the time among {known}; name it with --time COLUMN")
        return self.find(names[0])

    def find_key(self, name: str | None) -> int | None:
        """None for one key in all: asked for, or for want of a column `key`."""
        if name is None or name == ONE_KEY:
            return next(map(self.find, self.present(name or "key")), None)
        return self.find(name)

    def read(self, line: str) -> Row:
        fields = self.split(line)
        try:
            time, costs = fields[self._time], [fields[at] for at in self._costs]
            key = ONE_KEY if self._key is None else fields[self._key]
        except IndexError:
            raise Unreadable(f"{len(fields)} columns instead of {len(self.names)}") from None
        return checked_time(time), checked_key(key), checked_cost(costs) if costs else 1


def is_time(text: str) -> bool:
    try:
        parse_time(text)
    except ValueError:
        return False
    return True


def looks_like_csv(first: str, columns: Columns) -> bool:
    """Whether a file's first line is a header with a time, or a row that begins with one."""
    try:
        CsvFile(first, Columns(time=columns.time))
    except (CannotReplay, Unreadable):
        return False
    return True
