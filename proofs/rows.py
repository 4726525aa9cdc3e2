"""The rows of `python3 dev.py verify`.

Read by dev.py, so: standard library only, and nothing that Python 3.6 cannot read.
"""

from typing import List, NamedTuple

NOT_RUN = 77
"""How a proof ends that this machine lacks something for, in quick; it says what. In full it gets that."""


class Proof(NamedTuple):
    """It holds if Python, told FASTLIMIT_HYPOTHESIS=quick or full, ends with 0 on these arguments.

    What it provoked and counted it prints as lines `evidence: {JSON}`, which the result of a full run keeps.
    """

    name: str
    shows: str
    arguments: List[str]


def tests(marked: str) -> List[str]:
    return ["-m", "pytest", "-q", "-m", marked]


PROOFS = [
    Proof(
        "agreement",
        "the compiled engine, the reference model and the golden vectors say the same",
        tests("proof and not stress"),
    ),
    Proof("model", "every state of the slot's protocol, explored by Spin", ["-m", "proofs.model"]),
    Proof(
        "clock torture",
        "clocks may step, jump, stop and be preempted: the model's answers, no budget, never back",
        tests("clocks"),
    ),
    Proof(
        "linearizable",
        "histories of threads without the GIL: one order of their operations explains each",
        tests("linearizable"),
    ),
    Proof(
        "schedules",
        "the compiled kernel under every order of turns, and under drawn ones with deaths",
        tests("schedules"),
    ),
    Proof("stress", "threads on one key and on many: no grant too many, none lost", tests("stress")),
    Proof(
        "lifecycle", "forks, signals, exits: each defined, none hangs or loses a count", tests("lifecycle")
    ),
    Proof("siege", "no flood of new keys makes the table forget, search longer or grow", tests("siege")),
    Proof(
        "waiting",
        "those who wait are admitted in order, when the model says so, and none is forgotten",
        tests("waiting and not stress"),
    ),
    Proof(
        "sanitizers",
        "races, memory, undefined behaviour, leaks: each planted bug reported, and nothing else",
        ["-m", "proofs.sanitizers"],
    ),
    Proof(
        "free-threaded",
        "a Python without a GIL runs every test, and stays without",
        ["-m", "proofs.free_threaded"],
    ),
]
