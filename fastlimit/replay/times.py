"""A log's way to write an instant, read as whole nanoseconds since 1970-01-01 UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

SECOND = 10**9
MAX_NS = 2**63 - 1  # in the year 2262; what a clock of the engine can show
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAMES_OF_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

SECONDS = re.compile(r"(\d{1,12})(?:\.(\d*))?", re.ASCII)
ISO_8601 = re.compile(
    r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)[Tt ](?P<hour>\d\d):(?P<minute>\d\d)"
    r"(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?)? ?(?P<zone>[Zz]|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII,
)
APACHE = re.compile(
    r"(?P<day>\d\d)/(?P<month>[A-Za-z]{3})/(?P<year>\d{4}):(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
    r"(?:\.(?P<fraction>\d+))?(?: (?P<zone>[+-]\d{4}))?",
    re.ASCII,
)


@lru_cache(maxsize=1_024)
def parse_time(text: str) -> int:
    """The instant that `text` writes as epoch seconds, as ISO 8601 or as Apache's logs do.

    UTC where it names no zone; digits below a nanosecond are dropped. Raises ValueError for other texts,
    and for instants before 1970 or after 2262.
    """
    if found := SECONDS.fullmatch(text):
        instant = int(found[1]) * SECOND + nanoseconds(found[2])
    elif found := ISO_8601.fullmatch(text) or APACHE.fullmatch(text):
        instant = calendar_ns(found)
    else:
        raise ValueError("not a time (epoch seconds, ISO 8601 or Apache's form)")
    if not 0 <= instant <= MAX_NS:
        raise ValueError("a time before 1970 or after 2262")
    return instant


def nanoseconds(fraction: str | None) -> int:
    return int((fraction or "")[:9].ljust(9, "0"))


def calendar_ns(found: re.Match[str]) -> int:
    month = found["month"]
    try:
        moment = datetime(
            int(found["year"]),
            1 + NAMES_OF_MONTHS.index(month.lower()) if month.isalpha() else int(month),
            int(found["day"]),
            int(found["hour"]),
            int(found["minute"]),
            int(found["second"] or 0),
            tzinfo=zone_of(found["zone"]),
        )
    except ValueError:
        raise ValueError("a time that no calendar has") from None
    return (moment - EPOCH) // timedelta(seconds=1) * SECOND + nanoseconds(found["fraction"])


def zone_of(text: str | None) -> timezone:
    if text is None or text in "Zz":
        return UTC
    digits = text[1:].replace(":", "")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:] or 0))
    return timezone(-offset if text[0] == "-" else offset)
