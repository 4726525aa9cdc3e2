"""Copies, imports and interpreters: what a limiter is not made for says so."""

from __future__ import annotations

import copy
import gc
import importlib
import pickle
import sys
import sysconfig
from types import ModuleType
from typing import Any

import fastlimit
from fastlimit import Limiter
from fastlimit.testing import ManualClock

from . import KEY, ample, check_counts, done, go, refused, scene


@scene()
def copies_are_refused() -> None:
    """And nothing has happened to what was to be copied."""
    limiter, times = ample(), 0
    go()
    for one, reason in (
        (limiter, "a limiter cannot be pickled or copied: its buckets live in this process"),
        (limiter.bucket(KEY), "a Bucket cannot be pickled or copied: its limiter lives in this process"),
        (ManualClock(), "a ManualClock cannot be pickled or copied: limiters read this very one"),
    ):
        for duplicate in (
            copy.copy,
            copy.deepcopy,
            *(protocol(n) for n in range(pickle.HIGHEST_PROTOCOL + 1)),
        ):
            with refused(TypeError, reason):
                duplicate(one)
            times += 1
    check_counts(limiter, 0)
    done(refused=times)


def protocol(number: int) -> Any:
    return lambda one: pickle.dumps(one, number)


@scene()
def decisions_are_pickled() -> None:
    """By every protocol, and copied."""
    limiter = Limiter("5/min; leaky-bucket 3/h", name="api", clock=ManualClock(60.0))
    decisions = [limiter.acquire(KEY, 2), limiter.acquire(KEY), limiter.acquire(KEY), limiter.peek("new")]
    go()
    for decision in decisions:
        copies = [copy.copy(decision), copy.deepcopy(decision)]
        copies += [pickle.loads(pickle.dumps(decision, n)) for n in range(pickle.HIGHEST_PROTOCOL + 1)]
        for one in copies:
            assert (decision, repr(decision), hash(decision)) == (one, repr(one), hash(one))
    done(copies=len(copies) * len(decisions))


# --- imports


def without_modules() -> dict[str, ModuleType]:
    ours = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "fastlimit"}
    for name in ours:
        del sys.modules[name]
    return ours


@scene()
def imported_again() -> None:
    """After `sys.modules` was cleared: one compiled module, whose limiters go on; new Python around it."""
    limiter = ample()
    bucket = limiter.bucket(KEY)
    assert bucket.allow()
    go()
    for _ in range(3):
        without_modules()
        again = importlib.import_module("fastlimit")
        assert again is not fastlimit
        assert again.Limiter is Limiter
        assert limiter.allow(KEY)
        assert again.Limiter("5/min").allow(KEY)
    assert bucket.allow()
    limiter.update("1000M/h burst 1000M")
    check_counts(limiter, 5)
    done(imports=3)


@scene()
def reloaded() -> None:
    limiter = ample()
    go()
    for name in ("fastlimit.limiter", "fastlimit"):
        importlib.reload(sys.modules[name])
    assert limiter.allow(KEY)
    limiter.update("1000M/h burst 1000M")
    check_counts(limiter, 1)
    done()


IMPORT = """
try:
    import fastlimit
except ImportError as error:
    assert {message!r} in str(error), error
else:
    raise AssertionError("a second interpreter could import it")
"""


def in_another_interpreter(code: str, *, own_gil: bool) -> None:
    """Run it; an exception there is one here."""
    if sys.version_info >= (3, 13):
        interpreters = importlib.import_module("_interpreters")
        number = interpreters.create("isolated" if own_gil else "legacy")
        failed = interpreters.exec(number, code)
        assert failed is None, failed
    else:
        interpreters = importlib.import_module("_xxsubinterpreters")
        number = interpreters.create(isolated=own_gil)
        interpreters.run_string(number, code)
    interpreters.destroy(number)


def refused_to_a_subinterpreter(*, own_gil: bool) -> None:
    """Its types and its counters are one process's; the interpreter that has it notices nothing."""
    limiter = ample()
    assert limiter.allow(KEY)
    strict = own_gil and sys.version_info >= (3, 12)
    message = "does not support loading in subinterpreters" if strict else "one interpreter per process"
    path = f"import sys; sys.path[:] = {sys.path!r}\n"
    go()
    for _ in range(3):
        in_another_interpreter(path + IMPORT.format(message=message), own_gil=own_gil)
        gc.collect()
        assert limiter.allow(KEY)
    check_counts(limiter, 4)
    done(interpreters=3, free_threaded=bool(sysconfig.get_config_var("Py_GIL_DISABLED")))


@scene()
def subinterpreter() -> None:
    refused_to_a_subinterpreter(own_gil=False)


@scene()
def isolated_subinterpreter() -> None:
    refused_to_a_subinterpreter(own_gil=True)
