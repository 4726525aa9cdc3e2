"""How much a proof tries, and from which seed: little in `test`, more in quick, all in full."""

from __future__ import annotations

import os
import secrets
from typing import TypeVar

T = TypeVar("T")

MODE = os.environ.get("FASTLIMIT_HYPOTHESIS", "test")


def by_mode(test: T, quick: T, full: T) -> T:
    return {"test": test, "quick": quick, "full": full}[MODE]


SEED = int(os.environ.get("FASTLIMIT_SEED", by_mode(1, 1, secrets.randbits(32))))
"""Of everything random in a proof that is not Hypothesis's; printed as evidence. The full run draws anew."""
