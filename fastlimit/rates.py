"""The text form of limits: ``"100/s burst 200"``, ``"10 per 2 hours; fixed-window 1000/day"``.

::

    limits = limit { ( ";" | "," ) limit }
    limit  = [ algorithm ] rate [ ( "burst" | "capacity" ) [ "=" ] count ]
    rate   = count ( "/" | "per" ) [ number ] unit
    count  = number [ "k" | "M" ]

Letter case matters in the suffix ``M`` (10^6) alone; white space may stand between any two words or numbers.
Whether an algorithm can enforce a rate is not decided here: that is the constructor's business.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .errors import InvalidLimit
from .value import Value

_DAY_NS = 86_400 * 10**9


class _Unit(NamedTuple):
    """A unit of time: its name as written after `/`, after a number, and what else may be typed."""

    name: str
    plural: str
    others: str
    ns: int = 0
    months: int = 0
    origin_ns: int = 0


# Largest first: a rate is written with the first one that divides its period.
_UNITS = (
    _Unit("year", "years", "", months=12),
    _Unit("month", "months", "", months=1),
    # Weeks start on Mondays; 1970-01-05 was the first one.
    _Unit("week", "weeks", "w wk wks", ns=7 * _DAY_NS, origin_ns=4 * _DAY_NS),
    _Unit("day", "days", "d", ns=_DAY_NS),
    _Unit("h", "h", "hr hrs hour hours", ns=3_600 * 10**9),
    _Unit("min", "min", "m mins minute minutes", ns=60 * 10**9),
    _Unit("s", "s", "sec secs second seconds", ns=10**9),
    _Unit("ms", "ms", "", ns=10**6),
    _Unit("us", "us", "", ns=10**3),
    _Unit("ns", "ns", "", ns=1),
)
_UNIT_BY_WORD = {word: unit for unit in _UNITS for word in (unit.name, unit.plural, *unit.others.split())}

# Far beyond what any algorithm enforces, and small enough for a count or a period to fit 64 bits.
_MAX_COUNT = 10**12
_MAX_YEARS = 200
_MAX_PERIOD_NS = _MAX_YEARS * 1_461 * _DAY_NS // 4
_MAX_MONTHS = _MAX_YEARS * 12

_SUFFIXES = {"k": 10**3, "K": 10**3, "M": 10**6}
_MAX_TEXT = 1_000

_ALGORITHMS = ("token-bucket", "leaky-bucket", "fixed-window", "sliding-window", "sliding-log")
_DEFAULT_ALGORITHM = "token-bucket"
_OWNER_OF = {"burst": "token-bucket", "capacity": "leaky-bucket"}


class Rate(Value):
    """`count` units of cost per period; `str(rate)` is its shortest text and reads back as an equal rate.

    count: 1 to 10^12.
    period_ns: length of a period of fixed length, 1 ns to 200 years; 0 when `months` is given.
    months: length of a calendar period, 1 to 2400 (a year is 12); 0 for a period of fixed length.
    origin_ns: start of window 0 in ns since 1970-01-01T00:00Z: 4 days (Monday 1970-01-05) for a period in
        weeks, else 0. So ``"5/week"`` and ``"5/7days"`` differ.

    Raises InvalidLimit for other values, TypeError for other types.
    """

    __slots__ = __match_args__ = ("count", "period_ns", "months", "origin_ns")
    count: int
    period_ns: int
    months: int
    origin_ns: int

    def __init__(self, count: int, period_ns: int, months: int = 0, origin_ns: int = 0) -> None:
        self._set(count, period_ns, months, origin_ns)
        for name, value in zip(self.__match_args__, self._get(), strict=True):
            if type(value) is not int:
                raise TypeError(f"{name} must be an int, not {type(value).__name__}")
        if not 1 <= self.count <= _MAX_COUNT:
            raise InvalidLimit(
                f"count must be 1 to 10^12, not {shown(self.count)} (to allow none, deny by policy)"
            )
        fixed = 0 < self.period_ns <= _MAX_PERIOD_NS and self.months == 0
        calendar = 0 < self.months <= _MAX_MONTHS and self.period_ns == 0
        if not (fixed or calendar):
            raise InvalidLimit(
                f"either period_ns or months must be positive, up to {_MAX_YEARS} years, and the other 0, "
                f"not period_ns={shown(self.period_ns, 'd')}, months={shown(self.months, 'd')}"
            )
        if not any(self._number_of(unit) for unit in _UNITS):
            raise InvalidLimit(
                f"origin_ns must be 0 or, for whole weeks, 4 days, not {shown(self.origin_ns)}"
            )

    def __str__(self) -> str:
        number, unit = next((number, unit) for unit in _UNITS if (number := self._number_of(unit)))
        return f"{self.count}/{unit.name}" if number == 1 else f"{self.count}/{number}{unit.plural}"

    def _number_of(self, unit: _Unit) -> int:
        """The period in `unit`s; 0 when it is no whole number of them."""
        length, size = (self.months, unit.months) if self.months else (self.period_ns, unit.ns)
        divides = size > 0 and length % size == 0 and self.origin_ns == unit.origin_ns
        return length // size if divides else 0


class LimitText(NamedTuple):
    """One limit as read from text.

    algorithm: "token-bucket" (when none is named), "leaky-bucket", "fixed-window", "sliding-window" or
        "sliding-log".
    burst: the number after ``burst`` (token-bucket) or ``capacity`` (leaky-bucket), 1 to 10^12, else None.
    text: this limit's part of the string.
    """

    algorithm: str
    rate: Rate
    burst: int | None
    text: str


def shown(number: int, spec: str = ",") -> str:
    """For messages: Python refuses to write numbers of thousands of digits, so those are told by size."""
    return format(number, spec) if number.bit_length() < 128 else f"an int of {number.bit_length():,} bits"


def parse_rate(text: str) -> Rate:
    """Read one rate, such as ``"100/s"``, ``"10 per 2 hours"`` or ``"1.5k/500ms"``.

    Raises InvalidLimit, pointing at the place, for text that is no rate; TypeError when `text` is no str.
    """
    reader = _Reader(text)
    rate = _read_rate(reader)
    if reader.token.kind != "end":
        raise reader.error("the end of the rate (a burst or a further limit is no part of a rate)")
    return rate


def parse_limits(text: str) -> tuple[LimitText, ...]:
    """Read one or several limits, separated by ``;`` or ``,``: each has its own algorithm, rate and burst.

    Raises InvalidLimit, pointing at the place, for text that is no limit; TypeError when `text` is no str.
    """
    reader = _Reader(text)
    limits = [_read_limit(reader)]
    while reader.skip("separator"):
        limits.append(_read_limit(reader))
    return tuple(limits)


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


_TOKEN = re.compile(
    r"""(?P<number> [0-9]+ (?:_[0-9]+)* (?:\.[0-9]+)? )
      | (?P<word> [A-Za-z]+ (?:[-_][A-Za-z]+)* )
      | (?P<separator> [;,] )
      | (?P<slash> / )
      | (?P<equals> = )
      | (?P<junk> \S )""",
    re.VERBOSE,
)


class _Reader:
    """The tokens of a text, one at a time; the last one, of kind "end", is never taken."""

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f"a limit is read from a str such as '100/s', not from {type(text).__name__}")
        if len(text) > _MAX_TEXT:
            raise _unreadable(text[:40] + "...", 40, f"at most {_MAX_TEXT} characters, not {len(text)}")
        self.text = text
        self._tokens = [_Token(str(m.lastgroup), m.group(), m.start()) for m in _TOKEN.finditer(text)]
        self._tokens.append(_Token("end", "", len(text.rstrip())))
        self._position = 0

    @property
    def token(self) -> _Token:
        """The next token."""
        return self._tokens[self._position]

    @property
    def word(self) -> str:
        """The next token in lower case if it is a word, else an empty string."""
        return self.token.text.lower() if self.token.kind == "word" else ""

    @property
    def last(self) -> _Token:
        """The token taken last."""
        return self._tokens[self._position - 1]

    @property
    def at_end(self) -> bool:
        """Whether a limit ends here."""
        return self.token.kind in ("separator", "end")

    def take(self) -> _Token:
        self._position += 1
        return self.last

    def skip(self, kind: str) -> bool:
        """Take the next token if it is of this kind."""
        found = self.token.kind == kind
        self._position += found
        return found

    def error(self, expected: str, place: _Token | None = None) -> InvalidLimit:
        return _unreadable(self.text, (place or self.token).at, expected)


def _unreadable(text: str, at: int, expected: str) -> InvalidLimit:
    # A tab or a line break would move the caret away from its place.
    line = "".join(c if c.isprintable() else " " for c in text)
    return InvalidLimit(f"cannot read limit {text!r}: expected {expected}\n  {line}\n  {' ' * at}^")


def _read_limit(reader: _Reader) -> LimitText:
    start = reader.token.at
    algorithm = _read_algorithm(reader)
    rate = _read_rate(reader)
    if rate.months and algorithm != "fixed-window":
        wanted = f"a period of fixed length, or 'fixed-window {rate}' (it alone counts by the calendar)"
        raise reader.error(wanted, reader.last)
    burst = _read_allowance(reader, algorithm)
    if not reader.at_end:
        raise reader.error("the end of the limit, or ';' and another")
    return LimitText(algorithm, rate, burst, reader.text[start : reader.token.at].strip())


def _read_algorithm(reader: _Reader) -> str:
    name = reader.word.replace("_", "-")
    if name in _ALGORITHMS:
        reader.take()
        return name
    if name in _OWNER_OF:
        raise reader.error(f"a rate before {name!r}, without ',' or ';' between them")
    if name or reader.at_end:
        raise reader.error(f"a rate such as 100/s, or an algorithm ({', '.join(_ALGORITHMS)})")
    return _DEFAULT_ALGORITHM


def _read_rate(reader: _Reader) -> Rate:
    count = _read_count(reader, "count")
    if reader.word != "per" and reader.token.kind != "slash":
        hint = " (a comma separates limits: write 1_000, not 1,000)" if reader.token.text == "," else ""
        raise reader.error(f"'/' or 'per' and a period{hint}")
    reader.take()
    place = reader.token
    number = _read_period_number(reader)
    unit = _UNIT_BY_WORD.get(reader.word)
    if unit is None:
        raise reader.error("a unit (ns, us, ms, s, minute, hour, day, week, month, year)")
    reader.take()
    if number * unit.ns > _MAX_PERIOD_NS or number * unit.months > _MAX_MONTHS:
        raise reader.error(f"a period of at most {_MAX_YEARS} years", place)
    return Rate(count, number * unit.ns, number * unit.months, unit.origin_ns)


def _read_period_number(reader: _Reader) -> int:
    if reader.token.kind != "number":
        return 1
    token = reader.take()
    if "." in token.text or int(token.text) == 0:
        raise reader.error("a whole number of units, at least 1 (write 1500ms for 1.5s)", token)
    return int(token.text)


def _read_count(reader: _Reader, what: str) -> int:
    number = reader.token
    if not reader.skip("number"):
        raise reader.error(f"a {what} (a whole number from 1)")
    if reader.token.text == "m":
        raise reader.error("a capital M for a million (a small m is a minute)")
    factor = _SUFFIXES.get(reader.token.text, 1)
    if factor > 1:
        reader.take()
    whole, _, decimals = number.text.partition(".")
    scale: int = 10 ** len(decimals)
    count, rest = divmod(int(whole + decimals) * factor, scale)
    if rest:
        hint = " (write 1/2s for one every two seconds)" if what == "count" else ""
        raise reader.error(f"a whole {what}{hint}", number)
    if count == 0:
        hint = " (to allow none, deny by policy instead)" if what == "count" else ""
        raise reader.error(f"a {what} of at least 1{hint}", number)
    if count > _MAX_COUNT:
        raise reader.error(f"a {what} of at most 10^12", number)
    return count


def _read_allowance(reader: _Reader, algorithm: str) -> int | None:
    word = reader.word
    if word not in _OWNER_OF:
        return None
    if algorithm != _OWNER_OF[word]:
        own = next((f"{w!r} or " for w, owner in _OWNER_OF.items() if owner == algorithm), "")
        raise reader.error(f"{own}the end of the limit ({word!r} is for {_OWNER_OF[word]}, not {algorithm})")
    reader.take()
    reader.skip("equals")
    return _read_count(reader, word)
