"""The model's driver: what it makes of Spin's words, and which runs it takes for what."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from proofs.model import spin
from proofs.model.__main__ import chosen, verdict
from proofs.model.configurations import CONFIGURATIONS, Configuration
from proofs.model.spin import Search, read_search, require_tools, search

HOLDS = """
(Spin Version 6.5.2 -- 6 December 2019)
Full statespace search for:
	never claim         	- (none specified)
	assertion violations	+
State-vector 100 byte, depth reached 122, errors: 0
   434301 states, stored
   612021 states, matched
"""
FAILS = """
pan:1: assertion violated (true_tat[key]<=t) (at depth 87)
pan: wrote run.pml.trail
Warning: Search not completed
State-vector 108 byte, depth reached 132, errors: 1
   478021 states, stored
"""
MUST_HOLD = Configuration("holds", "slot.pml", {})
MUST_FAIL = Configuration("fails", "slot.pml", {}, control=True)


def test_a_search_that_saw_everything() -> None:
    assert Search("", "", 0, 434_301, 122) == read_search(HOLDS)


def test_a_search_that_saw_very_much() -> None:
    assert 108_430_000 == read_search(HOLDS.replace("434301", "1.0843e+08")).states


def test_a_search_that_ended_at_an_error() -> None:
    assert Search("assertion violated (true_tat[key]<=t)", "", 1, 478_021, 132) == read_search(FAILS)


@pytest.mark.parametrize(
    "words",
    [
        "error: max search depth too small",
        "pan: reached -DMEMLIM bound",
        "Warning: Search not completed",
        "pan: out of memory",
        "VECTORSZ is too small, edit pan.h",
        "Bit statespace search for: + Partial Order Reduction\nbit statespace",
    ],
)
def test_a_search_that_was_cut_short_proves_nothing(words: str) -> None:
    found = read_search(f"{words}\n{HOLDS}")
    assert found.incomplete
    assert found.incomplete == verdict(MUST_HOLD, found)


@pytest.mark.parametrize("text", ["", "gcc: fatal error", HOLDS.replace("errors: 0", "")])
def test_words_without_a_result_prove_nothing(text: str) -> None:
    assert "no result" in verdict(MUST_HOLD, read_search(text))
    assert "no result" in verdict(MUST_FAIL, read_search(text))


def test_verdicts() -> None:
    assert "ok" == verdict(MUST_HOLD, read_search(HOLDS))
    assert "ok" == verdict(MUST_FAIL, read_search(FAILS))
    assert "passes, and must fail" == verdict(MUST_FAIL, read_search(HOLDS))
    assert read_search(FAILS).violation == verdict(MUST_HOLD, read_search(FAILS))
    few = read_search(HOLDS.replace("434301", "12"))
    assert "explored next to nothing" == verdict(MUST_HOLD, few)
    stuck = read_search(FAILS.replace("assertion violated (true_tat[key]<=t)", "invalid end state"))
    assert "passes, and must fail" == verdict(MUST_FAIL, stuck)


def test_each_control_is_one_change_to_what_must_hold() -> None:
    holding = [set(one.defines.items()) for one in CONFIGURATIONS if not one.control]
    for control in (one for one in CONFIGURATIONS if one.control):
        changes = [len(set(control.defines.items()) - one) for one in holding]
        assert min(changes) <= 2, control.name
    names = [one.name for one in CONFIGURATIONS]
    assert len(set(names)) == len(names)


def test_quick_has_most_controls_and_something_that_holds_for_each_model() -> None:
    quick = chosen(full=False)
    assert {"slot.pml", "log.pml"} == {one.model for one in quick if not one.control}
    assert sum(one.control for one in quick) >= sum(one.control for one in CONFIGURATIONS) - 1
    assert CONFIGURATIONS == chosen(full=True)


def test_a_model_that_does_not_translate_is_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_spin(command: list[str], folder: Path) -> tuple[bool, str]:
        return False, f"{command[0]}: syntax error"

    monkeypatch.setattr(spin, "said", no_spin)
    found = search("slot.pml", {"PROCESSES": "skip"}, tmp_path)
    assert ("spin: spin: syntax error", -1) == (found.incomplete, found.states)


def test_without_spin_the_way_to_get_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/gcc" if name == "gcc" else None)
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: None)
    with pytest.raises(SystemExit, match="apt-get install -y spin"):
        require_tools()
