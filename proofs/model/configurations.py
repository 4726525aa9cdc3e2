"""What is explored: for each rule a small configuration that would show it missing, and controls that do."""

from __future__ import annotations

from typing import NamedTuple


class Configuration(NamedTuple):
    """A model with its defines; a control must fail by an assertion, all others must hold in every state."""

    name: str
    model: str
    defines: dict[str, str]
    control: bool = False
    quick: bool = True


SLOT, LOG = "slot.pml", "log.pml"


def callers(*each: str) -> str:
    return "; ".join(f"run {one}" for one in each)


TWO_OF_A_KEY = callers("Caller(1,1)", "Caller(1,1)", "Caller(2,1)")
TWICE_EACH = callers("Caller(1,2)", "Caller(2,2)")
SYNCHRONIZED = {"SYNCHRONIZED": ""}
ONE_SLOT = {"TICKS": "2", "CLAIM_ROUNDS": "1", "SLOTS": "1", "SETUP": "held(0, 1, 1)"}
RECLAIMED = {"TICKS": "2", "SETUP": "held(0, 2, 1)"}
VERSIONED = {"VERSIONS": "2", "LAXEST": "2", "TICKS": "3", "CLAIM_ROUNDS": "1", "SLOTS": "1"}
LEASED = {"LEASES": "", "TICKS": "2", "CLAIM_ROUNDS": "1", "SLOTS": "1", "SETUP": "held(0, 1, 0)"}
PLANES = {"PLANES": "", "SYNCHRONIZED": "", "TICKS": "1", "CLAIM_ROUNDS": "1", "SLOTS": "1"}
LOGGED = {"LIVE1": "", "TMAX": "3"}
DEEP = {"LIMIT": "1", "HELD": "held(1); held(1);"}


def holds(
    model: str, name: str, processes: str, *defines: dict[str, str], quick: bool = True
) -> Configuration:
    merged = {name: value for each in defines for name, value in each.items()}
    return Configuration(name, model, {**merged, "PROCESSES": processes}, quick=quick)


def without(rule: str, of: Configuration, value: str = "", *, quick: bool = True) -> Configuration:
    """The control: the same without one precaution."""
    defines = {**of.defines, rule: value}
    return Configuration(f"{of.name}, {rule} {value}".strip(), of.model, defines, True, quick)


BASE = holds(SLOT, "two callers of a key, one of another", TWO_OF_A_KEY, {"TICKS": "2"}, quick=False)
TWICE = holds(SLOT, "two keys, two calls each", TWICE_EACH, {"TICKS": "1"})
RECLAIM = holds(
    SLOT,
    "a slot in front comes free",
    callers("Caller(1,1)", "Caller(1,1)", "Caller(3,1)"),
    RECLAIMED,
    quick=False,
)
TAKEN = holds(
    SLOT,
    "two keys, reported once",
    callers("Caller(1,2)", "Caller(2,2)", "Synchronizer(1,0)"),
    SYNCHRONIZED,
    {"TICKS": "1"},
)
REFUNDED = holds(SLOT, "refund", callers("Caller(1,1)", "Caller(2,1)", "Refund(1)"), ONE_SLOT)
RESET = holds(SLOT, "reset", callers("Caller(1,1)", "Caller(2,2)", "Reset(1)"), ONE_SLOT)
UPDATED = holds(
    SLOT,
    "limit changed twice",
    callers("Caller(1,1)", "Update(3)", "Update(4)"),
    VERSIONED,
    {"SETUP": "intervals[0] = 2"},
)
UPDATED_AMID_CALLS = holds(
    SLOT,
    "limit changed amid two calls",
    callers("Caller(1,1)", "Caller(1,1)", "Update(3)"),
    VERSIONED,
    {"SETUP": "intervals[0] = 2", "STALE_READINGS": ""},
)
UPDATED_TWICE_AMID_CALLS = holds(
    SLOT,
    "limit changed twice amid two calls",
    callers("Caller(1,1)", "Caller(1,1)", "Update(3)", "Update(4)"),
    VERSIONED,
    {"SETUP": "intervals[0] = 2", "STALE_READINGS": ""},
    quick=False,
)
LEASE = holds(SLOT, "lease", callers("Caller(1,2)", "Caller(1,1)", "Lessor(1, 2)"), LEASED)
NAMED = holds(
    SLOT,
    "names in planes",
    callers("Caller(1,1)", "Caller(1,1)", "Caller(2,1)", "Synchronizer(1,0)"),
    PLANES,
    quick=False,
)
CHARGED = holds(
    LOG,
    "log: charges of 1, 1 and 2",
    callers("Caller(1,CHARGE,1)", "Caller(1,CHARGE,1)", "Caller(1,CHARGE,2)"),
    {"LIVE1": ""},
)
GIVEN_BACK = holds(
    LOG,
    "log: refund and charge of all, charge of one",
    callers("Caller(1,REFUND,2)", "Caller(1,CHARGE,2)", "Caller(1,CHARGE,1)"),
    LOGGED,
    {"HELD": "held(1); held(2);"},
)
IN_DEBT = holds(
    LOG,
    "log: refund of a debt, three charges",
    callers("Caller(1,REFUND,2)", "Caller(1,CHARGE,1)", "Caller(1,CHARGE,1)", "Caller(1,CHARGE,1)"),
    LOGGED,
    DEEP,
    quick=False,
)
BOTTOM = holds(
    LOG,
    "log: refund, debit, reset, charge",
    callers("Caller(1,REFUND,2)", "Caller(1,DEBIT,2)", "Caller(1,RESET,0)", "Caller(1,CHARGE,1)"),
    LOGGED,
    DEEP,
    quick=False,
)

CONFIGURATIONS = [
    holds(
        SLOT,
        "two callers of a key, one of another, a death",
        TWO_OF_A_KEY,
        {"TICKS": "1", "CRASHES": "1"},
        quick=False,
    ),
    BASE,
    without("ONE_STEP", BASE),
    without("NO_KILL", BASE),
    without("STALE_CLOCK", BASE),
    without("NO_GEN", BASE),
    without("PLAIN_IDENTITY", BASE),
    TWICE,
    without("NO_EXT_CHECK", TWICE),
    RECLAIM,
    without("CLOCK_BEFORE_SCAN", RECLAIM, quick=False),
    TAKEN,
    without("RECLAIM_UNSYNCED", TAKEN),
    holds(
        SLOT,
        "two keys, reported and absorbed, a death",
        callers("Caller(1,2)", "Caller(2,2)", "Synchronizer(2,1)"),
        SYNCHRONIZED,
        {"TICKS": "2", "CRASHES": "1"},
        quick=False,
    ),
    REFUNDED,
    without("REFUND_STORES", REFUNDED),
    RESET,
    without("RESET_STORES", RESET),
    UPDATED,
    without("PUBLISH_FIRST", UPDATED),
    without("NO_SWEEP_KILL", UPDATED),
    UPDATED_AMID_CALLS,
    without("PUBLISH_FIRST", UPDATED_AMID_CALLS),
    UPDATED_TWICE_AMID_CALLS,
    without("NO_SWEEP_KILL", UPDATED_TWICE_AMID_CALLS),
    LEASE,
    without("FLAG_OUTSIDE", LEASE),
    NAMED,
    without("PLAIN_PLANE", NAMED),
    without("PLANE_ONCE", NAMED),
    CHARGED,
    GIVEN_BACK,
    without("BUMP", GIVEN_BACK, "0"),
    IN_DEBT,
    Configuration(f"{IN_DEBT.name}, R 2", LOG, {**IN_DEBT.defines, "R": "2", "NOSTUCK": "1"}, True),
    BOTTOM,
]
