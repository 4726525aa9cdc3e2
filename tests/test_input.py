"""Bad input, rows K1 to K9: keys and costs that are wrong. No error charges anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import BYSTANDER, by_algorithm, expect_refusal, limiter_of, picture

from fastlimit import CostExceedsLimit, FastlimitError, Limiter, acquire_all
from fastlimit.limits import Limit

Call = Callable[[Limiter, Any], object]

# Every way in which a key gets in; what a call puts before the complaint about the key.
KEY_CALLS: dict[str, tuple[Call, str]] = {
    "allow": (lambda limiter, key: limiter.allow(key), ""),
    "acquire": (lambda limiter, key: limiter.acquire(key), ""),
    "peek": (lambda limiter, key: limiter.peek(key), ""),
    "refund": (lambda limiter, key: limiter.refund(key), ""),
    "debit": (lambda limiter, key: limiter.debit(key), ""),
    "reset": (lambda limiter, key: limiter.reset(key), ""),
    "bucket": (lambda limiter, key: limiter.bucket(key), ""),
    "allow_many": (lambda limiter, key: limiter.allow_many([BYSTANDER, key]), "keys[1]: "),
    "acquire_all": (
        lambda limiter, key: acquire_all([(limiter, BYSTANDER, 1), (limiter, key, 1)]),
        "triples[1]: ",
    ),
}

# The same for a cost.
COST_CALLS: dict[str, tuple[Call, str]] = {
    "acquire": (lambda limiter, cost: limiter.acquire(BYSTANDER, cost), ""),
    "peek": (lambda limiter, cost: limiter.peek(BYSTANDER, cost), ""),
    "refund": (lambda limiter, cost: limiter.refund(BYSTANDER, cost), ""),
    "debit": (lambda limiter, cost: limiter.debit(BYSTANDER, cost), ""),
    "bucket.acquire": (lambda limiter, cost: limiter.bucket(BYSTANDER).acquire(cost), ""),
    "bucket.peek": (lambda limiter, cost: limiter.bucket(BYSTANDER).peek(cost), ""),
    "bucket.refund": (lambda limiter, cost: limiter.bucket(BYSTANDER).refund(cost), ""),
    "bucket.debit": (lambda limiter, cost: limiter.bucket(BYSTANDER).debit(cost), ""),
    "allow_many": (lambda limiter, cost: limiter.allow_many(["other", BYSTANDER], [1, cost]), "costs[1]: "),
    "acquire_all": (
        lambda limiter, cost: acquire_all([(limiter, "other", 1), (limiter, BYSTANDER, cost)]),
        "triples[1]: ",
    ),
}
SETTLING = {"refund", "debit", "bucket.refund", "bucket.debit"}  # take costs above the limit


def buckets_of(keys: Sequence[Any]) -> int:
    """How many different buckets the keys have."""
    limiter = limiter_of()
    for key in keys:
        limiter.acquire(key)
    return limiter.stats().keys


@pytest.mark.parametrize("charge", [Limiter.allow, Limiter.acquire, Limiter.debit])
@pytest.mark.parametrize("key", [BYSTANDER, "unseen"])
def test_a_charge_before_the_error_would_be_seen(charge: Call, key: str) -> None:
    def late(limiter: Limiter) -> None:
        charge(limiter, key)
        raise ValueError("late")

    limiter = limiter_of()
    with (
        pytest.raises(AssertionError, match=r"^charged before"),
        expect_refusal(ValueError, "late", limiter),
    ):
        late(limiter)


# --- K1 to K7: keys


def test_k1_very_long_keys() -> None:
    limiter = limiter_of()
    longest: list[Any] = [
        "a" * 4_096,
        b"a" * 4_096,
        "\u00e9" * 2_048,
        "\U0001f600" * 1_024,
        ("a" * 4_000, b"b" * 96),
    ]
    for key in longest:
        assert limiter.allow(key)
    assert len(longest) == limiter.stats().keys
    million = 2**20
    too_long = [
        ("a" * 4_097, 4_097),
        (b"a" * 4_097, 4_097),
        ("\u00e9" * 2_049, 4_098),
        ("a" * million, million),
        (b"a" * million, million),
        ("\ud800" * million, 3 * million),
        (("a" * 4_000, b"b" * 97), 4_097),
        (("a",) * 4_097, 4_097),
    ]
    for call, prefix in KEY_CALLS.values():
        for key, size in too_long:
            message = f"{prefix}key must be at most 4096 bytes, not {size}; hash or shorten it first"
            with expect_refusal(ValueError, message, limiter):
                call(limiter, key)


def test_k1_long_keys_are_told_apart_to_the_last_byte() -> None:
    assert 3 == buckets_of(["a" * 4_095 + "b", "a" * 4_095 + "c", "a" * 4_095])


def test_k2_nul_is_a_character_like_any_other() -> None:
    keys = ["a", "a\0", "a\0b", "a\0\0", "\0", "", b"a", b"a\0", b"a\0b", b"\0", b"", ("a", ""), ("a\0",)]
    assert len(keys) == buckets_of(keys)


def test_k3_lone_surrogates_are_keys_of_their_own() -> None:
    keys = [
        "\ud800",
        "\udfff",
        "\ud800\udc00",
        "\U00010000",
        "a\ud800",
        "?",
        "\ufffd",
        "",
        b"\xed\xa0\x80",
        ("\ud800",),
    ]
    assert len(keys) == buckets_of(keys)
    limiter = limiter_of()
    assert [5, 4, 3] == [limiter.peek("\ud800").remaining] + [
        limiter.acquire("\ud800").remaining for _ in range(2)
    ]


def test_k4_str_and_bytes_of_the_same_text_are_two_keys() -> None:
    assert 4 == buckets_of(["user:1", b"user:1", ("user:1",), (b"user:1",)])


class Constant(str):
    """A text that compares and hashes as it likes."""

    def __hash__(self) -> int:
        raise RuntimeError("asked for a hash")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("asked to compare")


DECISIONS = """
from fastlimit import Limiter
from fastlimit.testing import ManualClock
limiter = Limiter("3/min", clock=ManualClock(1_000.0), name="api", max_keys=64)
keys = ["user:%d" % (i * i % 23) for i in range(200)]
print([limiter.acquire(key) for key in keys], limiter.stats())
"""


def test_k5_pythons_hash_plays_no_part() -> None:
    limiter = limiter_of()
    limiter.acquire(Constant("user:1"))
    assert 4 == limiter.peek("user:1").remaining
    outputs = [
        subprocess.run(
            [sys.executable, "-c", DECISIONS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1] != ""


def test_k6_keys_are_taken_byte_for_byte() -> None:
    nfc, nfd = "caf\u00e9", "cafe\u0301"
    keys = [nfc, nfd, "admin", "Admin", "ADMIN", "admin ", " admin", "\u0430dmin", "admin\n", "admin\u200b"]
    assert len(keys) == buckets_of(keys)


@pytest.mark.parametrize(
    ("key", "named"),
    [
        (42, "int"),
        (2**5_000, "int"),
        (None, "NoneType"),
        (1.5, "float"),
        (True, "bool"),
        (["a"], "list"),
        (bytearray(b"a"), "bytearray"),
        (memoryview(b"a"), "memoryview"),
        (("a", 1), "int"),
        (("a", None), "NoneType"),
        (("a", ("b",)), "tuple"),
        (object(), "object"),
    ],
)
@pytest.mark.parametrize("how", KEY_CALLS)
def test_k7_other_types_are_no_keys(how: str, key: object, named: str) -> None:
    call, prefix = KEY_CALLS[how]
    limiter = limiter_of()
    with expect_refusal(
        TypeError, f"{prefix}key must be a str, bytes or a tuple of them, not {named}", limiter
    ):
        call(limiter, key)


@pytest.mark.parametrize("how", KEY_CALLS)
def test_k7_an_empty_tuple_is_no_key(how: str) -> None:
    call, prefix = KEY_CALLS[how]
    limiter = limiter_of()
    message = f"{prefix}key must not be an empty tuple; give at least one str or bytes part"
    with expect_refusal(ValueError, message, limiter):
        call(limiter, ())


texts = st.text(alphabet="a:\0\u00e9\ud800", max_size=3) | st.binary(max_size=3)
keys_of_any_kind = texts | st.lists(texts, min_size=1, max_size=4).map(tuple)


@given(st.lists(keys_of_any_kind, max_size=20))
def test_k7_different_keys_have_different_buckets(keys: list[Any]) -> None:
    limiter = limiter_of(max_keys=64)
    for key in keys:
        limiter.allow(key)
    tagged = {(type(key), tuple(map(type, key)) if isinstance(key, tuple) else None, key) for key in keys}
    assert len(tagged) == limiter.stats().keys


def test_k7_parts_of_tuples_do_not_run_together() -> None:
    keys = [
        ("a:b", "c"),
        ("a", "b:c"),
        ("a", "b", "c"),
        ("abc",),
        "abc",
        "a:b:c",
        ("ab", "c"),
        ("a", "bc"),
        ("", "abc"),
    ]
    assert len(keys) == buckets_of(keys)


# --- K8 and K9: costs


@pytest.mark.parametrize(
    ("cost", "error", "message"),
    [
        (float("nan"), TypeError, "cost must be an int, not float (nan); scale fractions to whole units"),
        (float("inf"), TypeError, "cost must be an int, not float (inf); scale fractions to whole units"),
        (-0.0, TypeError, "cost must be an int, not float (-0.0); scale fractions to whole units"),
        (1.0, TypeError, "cost must be an int, not float (1.0); scale fractions to whole units"),
        (True, TypeError, "cost must be an int, not bool (True); scale fractions to whole units"),
        (None, TypeError, "cost must be an int, not NoneType (None); scale fractions to whole units"),
        ("1", TypeError, "cost must be an int, not str ('1'); scale fractions to whole units"),
        (-1, ValueError, "cost must be 0 or more, not -1; to give back, call refund"),
        (-(2**63), ValueError, f"cost must be 0 or more, not {-(2**63)}; to give back, call refund"),
        (-(2**64), ValueError, f"cost must be 0 or more, not {-(2**64)}; to give back, call refund"),
    ],
)
@pytest.mark.parametrize("how", COST_CALLS)
def test_k8_bad_costs(how: str, cost: object, error: type[Exception], message: str) -> None:
    call, prefix = COST_CALLS[how]
    limiter = limiter_of()
    limiter.acquire(BYSTANDER, 2)
    with expect_refusal(error, prefix + message, limiter):
        call(limiter, cost)


@by_algorithm
def test_k8_a_cost_of_nothing_is_a_peek(limit: Limit) -> None:
    limiter = limiter_of(limit)
    limiter.debit(BYSTANDER, 7)
    before = picture(limiter)
    looks = [
        limiter.peek(BYSTANDER, 0),
        limiter.acquire(BYSTANDER, 0),
        acquire_all([(limiter, BYSTANDER, 0)]),
    ]
    looks += [limiter.refund(BYSTANDER, 0), limiter.debit(BYSTANDER, 0), limiter.bucket(BYSTANDER).acquire(0)]
    assert [looks[0]] * len(looks) == looks
    assert (True, 0, 0.0) == (looks[0].allowed, looks[0].remaining, looks[0].retry_after)
    assert b"\1" == limiter.allow_many([BYSTANDER], [0])
    assert before == picture(limiter)


@pytest.mark.parametrize("how", sorted(COST_CALLS.keys() & SETTLING))
def test_k8_settling_takes_64_bits(how: str) -> None:
    call, _ = COST_CALLS[how]
    limiter = limiter_of()
    with expect_refusal(ValueError, f"cost must be at most 2^63 - 1, not {2**63}", limiter):
        call(limiter, 2**63)
    before = limiter.acquire(BYSTANDER, 2)
    call(limiter, 2**63 - 1)
    assert {"refund": 5, "debit": 0}[how.removeprefix("bucket.")] == limiter.peek(BYSTANDER).remaining
    assert before.limit == limiter.peek(BYSTANDER).limit


@by_algorithm
@pytest.mark.parametrize("how", sorted(COST_CALLS.keys() - SETTLING))
def test_k9_a_cost_above_the_limit_is_never_granted(how: str, limit: Limit) -> None:
    call, prefix = COST_CALLS[how]
    limiter = limiter_of(limit)
    for cost in (6, 2**32, 2**63 - 1, 2**63, 2**64, 10**30):
        message = (
            f"{prefix}cost {cost} is above what api can ever grant, 5; split the call or raise the limit"
        )
        with expect_refusal(CostExceedsLimit, message, limiter):
            call(limiter, cost)
    call(limiter, 5)  # the whole capacity is no error


@pytest.mark.parametrize("how", COST_CALLS)
def test_k9_a_cost_too_long_to_print(how: str) -> None:
    call, prefix = COST_CALLS[how]
    limiter = limiter_of()
    before = picture(limiter)
    if how in SETTLING:
        with pytest.raises(ValueError, match=r"^cost must be at most 2\^63 - 1, not "):
            call(limiter, 10**5_000)
    else:
        with pytest.raises(
            CostExceedsLimit, match=f"^{re.escape(prefix)}cost .* is above what api can ever grant, 5;"
        ):
            call(limiter, 10**5_000)
    with pytest.raises(ValueError, match=f"^{re.escape(prefix)}cost must be 0 or more, not "):
        call(limiter, -(10**5_000))
    assert before == picture(limiter)


def test_k9_never_is_an_error_and_not_yet_a_decision() -> None:
    limiter = limiter_of()
    assert limiter.acquire(BYSTANDER, 5)
    assert 60.0 == limiter.acquire(BYSTANDER, 5).retry_after
    assert issubclass(CostExceedsLimit, ValueError)
    assert issubclass(CostExceedsLimit, FastlimitError)


def test_k9_the_least_of_several_limits_counts() -> None:
    limiter = Limiter(["10/s", "3/min"], name="api")
    message = "cost 4 is above what api[0] and api[1] can ever grant, 3; split the call or raise the limit"
    with expect_refusal(CostExceedsLimit, message, limiter):
        limiter.acquire(BYSTANDER, 4)


def test_k9_triples_with_the_same_key_are_added_up_first() -> None:
    limiter = limiter_of()
    message = "triples[2]: cost 6 is above what api can ever grant, 5; split the call or raise the limit"
    with expect_refusal(CostExceedsLimit, message, limiter):
        acquire_all([(limiter, BYSTANDER, 3), (limiter, "other", 5), (limiter, BYSTANDER, 3)])
