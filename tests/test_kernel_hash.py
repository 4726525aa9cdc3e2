"""The hash by which a table knows its keys: it keeps kinds and lengths apart, and shows no pattern of keys.

The secret is fixed here, so every figure is the same in each run.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import pytest
from kernel_probe import SECRET, Key

from fastlimit import Limiter

LENGTHS = [*range(1, 41), 63, 64, 65, 4096]
SIGMAS = 6  # a sound hash misses such a bound with probability 2e-9


def bits(key: Key) -> int:
    return key.home << 64 | key.ext << 32 | key.tag


def chi_square(cells: Iterable[int], number: int, samples: int) -> float:
    """How far from evenly `samples` fell into `number` cells, in standard deviations of that figure."""
    counts = Counter(cells)
    expected = samples / number
    figure = sum((counts[cell] - expected) ** 2 / expected for cell in range(number))
    return (figure - (number - 1)) / math.sqrt(2 * (number - 1))


Hasher = Callable[[Any], Key]


@pytest.fixture
def hashed(probe: ModuleType) -> Hasher:
    return lambda key: Key(*probe.key_with(SECRET, key))


def careless(key: Any) -> Key:
    """Control: FNV-1a of 32 bits, twice over."""
    value = 2166136261
    for byte in key if isinstance(key, bytes) else str(key).encode():
        value = (value ^ byte) * 16777619 % 2**32
    return Key(value, value, value << 32 | value)


# --- which keys are one


def cuts(text: str) -> list[tuple[str, ...]]:
    """Every way to cut a text into parts."""
    ends = range(1, len(text) + 1)
    return [(text[:end], *rest) for end in ends for rest in cuts(text[end:])] if text else [()]


def different_keys() -> list[Any]:
    texts = [
        "",
        "a",
        "aa",
        "aaa",
        "\0",
        "\0\0",
        "é",
        "\xe9\0",
        "\u6161",
        "aa\0\0",
        "\U00010000",
        "\ud800",
        "\udfff",
    ]
    raw = [text.encode("utf-16-le", "surrogatepass") for text in texts] + [b"a", b"aa", b"\xe9", b"\0"]
    singles = [*texts, *dict.fromkeys(raw)]
    keys = [
        *singles,
        *((single,) for single in singles),
        *(("", single) for single in singles),
        *((single, "") for single in singles),
        *cuts("abcdef"),
        *(tuple(part.encode() for part in cut) for cut in cuts("abcdef")),
        ("a:b", "c"),
        ("a", "b:c"),
        *(("",) * n for n in range(3, 40)),
    ]
    return list(dict.fromkeys(keys))


def test_keys_of_different_kinds_and_parts_differ(hashed: Hasher) -> None:
    keys = different_keys()
    assert len(keys) > 200
    assert len(keys) == len({hashed(key)[:2] for key in keys})


def test_equal_keys_are_one_however_they_came_about(hashed: Hasher) -> None:
    class Name(str):
        __slots__ = ()

    for text in ("abc", "é", "\u6161", "\U00010000", "\ud800"):
        others = [Name(text), f"\U0010ffff{text}"[1:], "".join([text[:1], text[1:]])]
        assert {hashed(text)} == set(map(hashed, others))
        assert {hashed((text, b""))} == {hashed((other, b"")) for other in others}


def test_keys_of_every_length_differ_even_if_all_their_bytes_are_the_same(hashed: Hasher) -> None:
    keys = [byte * length for byte in (b"\0", b"a", b"\xff") for length in [0, *LENGTHS]]
    keys = list(dict.fromkeys(keys))
    assert len(keys) == len({hashed(key)[:2] for key in keys})


def test_a_limiter_has_a_secret_of_its_own(probe: ModuleType) -> None:
    assert 10 == len({probe.key_of(Limiter("1/s"), "k") for _ in range(10)})


def test_each_word_of_the_secret_matters(probe: ModuleType) -> None:
    secrets = [SECRET] + [tuple(word ^ (i == n) for i, word in enumerate(SECRET)) for n in range(4)]
    for key in ("k", "k" * 40, ("k",)):
        assert len(secrets) == len({probe.key_with(secret, key) for secret in secrets})


def test_tag_and_ext_are_never_the_reserved_0(probe: ModuleType) -> None:
    """A secret under which the empty text hashes to nothing but zeros."""
    assert Key(tag=1, ext=1, home=0) == probe.key_with((7, 0, 7, 0), "")


# --- how bits fall


def flips(hashed: Hasher, length: int, samples: int) -> list[float]:
    """How far from half the time each bit of the hash flips with one of the key, in standard deviations."""
    draw = random.Random(length)
    flipped = [0] * 128
    for _ in range(samples):
        key = draw.randbytes(length)
        other = int.from_bytes(key, "little") ^ 1 << draw.randrange(8 * length)
        difference = bits(hashed(key)) ^ bits(hashed(other.to_bytes(length, "little")))
        for i in range(128):
            flipped[i] += difference >> i & 1
    return [(count - samples / 2) / math.sqrt(samples / 4) for count in flipped]


@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 4096])
def test_one_bit_of_a_key_flips_each_bit_of_its_hash_half_the_time(hashed: Hasher, length: int) -> None:
    assert max(map(abs, flips(hashed, length, 2_000))) < SIGMAS


def test_keys_that_differ_in_one_bit_differ(hashed: Hasher) -> None:
    for length in LENGTHS:
        key = int.from_bytes(random.Random(length).randbytes(length), "little")
        near = [key, *(key ^ 1 << bit for bit in range(0, 8 * length, max(1, length // 64)))]
        assert len(near) == len({hashed(one.to_bytes(length, "little"))[:2] for one in near})


NAMES: dict[str, Callable[[int], Any]] = {
    "numbered": "user:{}".format,
    "padded": "{:040d}".format,
    "addresses": lambda i: f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}",
    "raw counters": lambda i: i.to_bytes(8, "big"),
    "two bytes": lambda i: i.to_bytes(2, "little"),
    "pairs": lambda i: (f"tenant {i >> 8}", f"{i & 255}"),
    "long ends alike": lambda i: b"%d" % i + b"x" * 200,
}
PARTS: dict[str, Callable[[Key], int]] = {
    "tag, low": lambda key: key.tag & 255,
    "tag, high": lambda key: key.tag >> 24,
    "ext, low": lambda key: key.ext & 255,
    "ext, high": lambda key: key.ext >> 24,
    "home": lambda key: key.home >> 56,
    "overflow": lambda key: key.home & 255,
    "home with tag": lambda key: key.home >> 60 << 4 | key.tag & 15,
    "home with ext": lambda key: key.home >> 60 << 4 | key.ext >> 28,
    "tag with ext": lambda key: (key.tag & 15) << 4 | key.ext & 15,
}
SAMPLES = 1 << 16


def uneven(hashed: Hasher, name: Callable[[int], Any]) -> dict[str, float]:
    """By part of the hash, how far from evenly many keys fall into its 256 values."""
    keys = [hashed(name(i)) for i in range(SAMPLES)]
    return {part: chi_square(map(cut, keys), 256, SAMPLES) for part, cut in PARTS.items()}


@pytest.mark.parametrize("names", NAMES)
def test_no_pattern_in_the_keys_shows_in_their_hashes(hashed: Hasher, names: str) -> None:
    assert {} == {
        part: figure for part, figure in uneven(hashed, NAMES[names]).items() if abs(figure) > SIGMAS
    }


def test_as_many_tags_meet_as_chance_has_it(hashed: Hasher) -> None:
    keys = [hashed(f"user:{i}") for i in range(200_000)]
    meetings = [len(keys) - len({key[part] for key in keys}) for part in (0, 1)]
    assert all(0 < number < 20 for number in meetings)  # 4.7 expected of 2^32
    assert len(keys) == len({key[:2] for key in keys})


def test_the_bounds_are_missed_by_a_careless_hash() -> None:
    assert max(uneven(careless, NAMES["numbered"]).values()) > SIGMAS
    assert max(map(abs, flips(careless, 4, 2_000))) > SIGMAS
