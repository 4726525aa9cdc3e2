"""The bench itself: its statistics, its checks and its sections. No figure is asserted here."""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Iterable
from itertools import repeat
from pathlib import Path

import pytest

from bench import cases, compiled, harness, logs, memory, million, peers, startup, targets, threads
from bench.harness import Contender, Rounds, Samples, Summary, Unavailable, compile_loop, summarize
from bench.rows import Row, missing_rows, targets_of, timed_row


def one(value: float) -> Summary:
    return Summary(value, value, value)


class TestStatistics:
    def test_median_and_quartiles(self) -> None:
        assert Summary(3.0, 2.0, 4.0) == summarize([5.0, 1.0, 4.0, 2.0, 3.0])

    def test_of_one_value(self) -> None:
        assert one(7.0) == summarize([7.0])

    def test_ratios_are_taken_within_a_round(self) -> None:
        """A round twice as slow for both sides leaves the ratio alone; the ratio of the medians would not."""
        samples = Samples({"own": [30.0, 60.0, 33.0], "base": [10.0, 20.0, 22.0]})
        assert [3.0, 3.0, 1.5] == samples.ratios("own", "base")
        assert 3.0 == summarize(samples.ratios("own", "base")).median
        assert 3.0 != summarize(samples.ns["own"]).median / summarize(samples.ns["base"]).median

    def test_rounds_of_different_number_are_refused(self) -> None:
        with pytest.raises(ValueError, match="shorter"):
            Samples({"own": [1.0, 2.0], "base": [1.0]}).ratios("own", "base")


class TestLoop:
    def test_runs_the_statement_once_a_step_and_returns_nanoseconds(self) -> None:
        seen: list[str] = []
        elapsed = compile_loop("seen.append(key)", {"seen": seen, "key": "k"})(repeat(None, 5))
        assert ["k"] * 5 == seen
        assert isinstance(elapsed, int)

    def test_feeds_the_steps_to_the_statement(self) -> None:
        seen: list[str] = []
        compile_loop("seen.append(key)", {"seen": seen}, over="key")(["a", "b"])
        assert ["a", "b"] == seen

    def test_nothing_stands_between_loop_and_callee(self) -> None:
        callers: list[str] = []

        def callee() -> None:
            callers.append(sys._getframe(1).f_code.co_name)

        compile_loop("callee()", {"callee": callee})(repeat(None, 1))
        assert ["loop"] == callers

    def test_collector_is_off_inside_and_on_again_after(self) -> None:
        states: list[bool] = []
        with harness.collector_off():
            states.append(gc.isenabled())
        states.append(gc.isenabled())
        assert [False, True] == states


class TestRounds:
    def test_every_round_visits_every_contender_in_a_new_order(self) -> None:
        visits: list[str] = []
        names = ["a", "b", "c", "d"]
        run = Rounds(
            [Contender(name, "visits.append(name)", {"visits": visits, "name": name}) for name in names], 1
        )
        orders = []
        for _ in range(4):
            visits.clear()
            run.visit()
            orders.append(tuple(dict.fromkeys(visits)))
        assert [set(names)] * 4 == [set(order) for order in orders]
        assert 1 < len(set(orders))
        assert dict.fromkeys(names, 4) == {name: len(ns) for name, ns in run.finish().ns.items()}

    def test_a_figure_is_per_decision(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(harness, "perf_counter_ns", iter(range(0, 10**9, 1_000)).__next__)
        single, many = (
            Contender(name, "None", {}, calls=calls) for name, calls in (("one", 1), ("many", 100))
        )
        ns = harness.measure([single, many], rounds=1, slice_ns=1_000).ns
        assert ns["one"][0] == pytest.approx(100 * ns["many"][0])

    def test_a_contender_that_answers_wrongly_is_an_error(self) -> None:
        refusing = Contender("refusing", "f()", {"f": lambda: False}, allowed=True)
        with pytest.raises(RuntimeError, match=r"refusing: f\(\) should be allowed but answered False"):
            harness.measure([refusing], rounds=1, slice_ns=1)

    def test_a_contender_that_changes_its_answer_is_an_error(self) -> None:
        granted = [0]

        def until_exhausted() -> bool:
            granted[0] += 1
            return granted[0] < 100

        run = Rounds([Contender("running out", "f()", {"f": until_exhausted}, allowed=True)], slice_ns=1)
        run.visit()
        with pytest.raises(RuntimeError, match="running out"):
            run.finish()

    def test_the_verdict_reads_the_answer(self) -> None:
        harness.check(Contender("none", "f()", {"f": lambda: None}, verdict="r is None", allowed=True))
        with pytest.raises(RuntimeError):
            harness.check(Contender("none", "f()", {"f": lambda: None}, verdict="r is None", allowed=False))


class TestVerdicts:
    @pytest.mark.parametrize(
        ("expected", "ratio"), [("pass", 1.7), ("pass", 1.8), ("missed", 1.81), ("missed", 18.0)]
    )
    def test_at_most(self, expected: str, ratio: float) -> None:
        assert expected == Row("x", value=one(40.0), ratio=one(ratio), target=targets.ALLOW_TO_NO_OP).verdict

    @pytest.mark.parametrize(("expected", "ratio"), [("pass", 3.0), ("missed", 2.99)])
    def test_at_least(self, expected: str, ratio: float) -> None:
        assert expected == Row("x", ratio=one(ratio), target=targets.PEERS_TO_ALLOW["floodgate-rs"]).verdict

    @pytest.mark.parametrize(("expected", "value"), [("pass", 12.0), ("missed", 12.5)])
    def test_on_the_value(self, expected: str, value: float) -> None:
        row = Row("x", value=one(value), ratio=one(0.1), target=targets.HANDLE_NS)
        assert expected == row.verdict

    @pytest.mark.parametrize(("expected", "low"), [("pass", 0.9), ("missed", 1.1)])
    def test_at_the_lower_quartile(self, expected: str, low: float) -> None:
        assert expected == Row("x", ratio=Summary(1.2, low, 2.0), target=targets.STALL_TO_CONTROL).verdict

    def test_what_could_not_run_has_not_passed(self) -> None:
        (row,) = missing_rows([("x", targets.HANDLE_NS)], Unavailable("no compiler"))
        assert ("not run", "no compiler") == (row.verdict, row.missing)

    def test_a_missing_base_is_not_a_pass(self) -> None:
        row = timed_row(Samples({"own": [1.0]}), "x", "own", "base", targets.ALLOW_TO_NO_OP)
        assert ("not run", "base not measured") == (row.verdict, row.missing)

    def test_summary_counts_only_rows_with_targets(self) -> None:
        rows = [
            Row("a", ratio=one(1.0), target=targets.ALLOW_TO_NO_OP),
            Row("b", ratio=one(9.0), target=targets.ALLOW_TO_NO_OP),
            Row("c", target=targets.ALLOW_TO_NO_OP, missing="no compiler"),
            Row("d", value=one(1.0)),
        ]
        assert (1, 1, 1) == targets_of(rows)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """The rows of one round over the hot key."""
    return cases.run(rounds=1)[0]


class TestHotKey:
    def test_each_algorithm_is_held_against_both_floors_allowed_and_denied(self, rows: list[Row]) -> None:
        expected = {
            (f"{algorithm} allow, {word}", base)
            for algorithm in ("TokenBucket", "LeakyBucket", "FixedWindow", "SlidingWindow")
            for word in ("allowed", "denied")
            for base in (cases.NO_OP, cases.DICT_GET)
        }
        floors = {cases.NO_OP, cases.DICT_GET}
        assert expected == {(row.what, row.against) for row in rows if row.target and row.against in floors}

    def test_every_target_of_the_hot_key_is_printed(self, rows: list[Row]) -> None:
        printed = {row.target for row in rows}
        assert printed >= {
            targets.ALLOW_TO_NO_OP,
            targets.ALLOW_TO_DICT_GET,
            targets.ACQUIRE_TO_ALLOW,
            targets.TWO_LIMITS_TO_ALLOW,
            targets.THREE_LIMITERS_TO_ALLOW,
            targets.BATCH_HOT_NS,
            targets.HANDLE_NS,
        }

    def test_without_a_compiler_the_rows_stay(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def absent(name: str) -> None:
            raise Unavailable("Cython is not installed")

        monkeypatch.setattr(compiled, "load", absent)
        absent_rows = [row for row in cases.run(rounds=1)[0] if row.verdict == "not run"]
        assert {targets.ALLOW_TO_NO_OP, targets.HANDLE_NS} == {
            row.target for row in absent_rows if row.target
        }
        assert {"Cython is not installed"} == {row.missing for row in absent_rows}


class TestSlidingLog:
    def test_each_target_is_printed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memory, "run_child", lambda *arguments: 17.0)
        rows, _ = logs.run(rounds=1)
        assert {targets.LOG_TO_NO_OP, targets.LARGE_LOG_TO_SMALL, targets.BYTES_PER_ENTRY} == {
            row.target for row in rows if row.target
        }
        assert ["SlidingLog, RSS an entry"] == [row.what for row in rows if row.unit == "B"]

    def test_what_the_clock_costs_is_taken_off_in_each_round(self) -> None:
        allowed = [logs.name_of(count, "allowed") for count in logs.WINDOWS]
        samples = Samples({name: [50.0, 90.0] for name in allowed} | {logs.CLOCK: [20.0, 40.0]})
        logs.without_clock(samples)
        assert [[30.0, 50.0]] * 2 == [samples.ns[name] for name in allowed]

    def test_without_a_floor_the_rows_stay(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fails(name: str) -> None:
            raise Unavailable("no compiler")

        monkeypatch.setattr(compiled, "load", fails)
        assert ["not run"] * 4 == [row.verdict for row in logs.run(rounds=1)[0]]


class TestMillionKeys:
    def test_contenders_get_the_same_chunks_in_the_same_order_far_apart(self) -> None:
        seen: dict[str, list[int]] = {million.CONTROL: [], million.ALLOW: [], million.ALLOW_MANY: []}

        def loop(name: str) -> harness.Loop:
            def note(part: Iterable[object]) -> int:
                seen[name].extend(number for number in part if isinstance(number, int))
                return 1

            return note

        parts = [[number] for number in range(6)]
        million.compare({name: loop(name) for name in seen}, dict.fromkeys(seen, parts), chunk=1, passes=2)
        assert [list(range(6)) * 2] * 3 == [rotated(numbers) for numbers in seen.values()]
        assert [0, 2, 4] == [numbers[0] for numbers in seen.values()]

    def test_keys_are_fresh_shuffled_and_repeatable(self) -> None:
        keys = million.fresh_keys(1_000, random.Random(1))
        assert 1_000 == len(set(keys))
        assert sorted(keys) != keys
        assert keys == million.fresh_keys(1_000, random.Random(1))

    def test_zipf_prefers_few_keys_and_uniform_does_not(self) -> None:
        keys = million.fresh_keys(1_000, random.Random(1))
        zipf = million.zipf(keys, 10_000, random.Random(2))
        uniform = million.uniform(keys, 10_000, random.Random(2))
        weight = sum((rank + 1) ** -1.1 for rank in range(1_000))
        assert 1 / weight == pytest.approx(zipf.count(keys[0]) / 10_000, rel=0.1)
        assert uniform.count(keys[0]) < zipf.count(keys[0]) / 10

    def test_each_target_is_printed(self) -> None:
        size = million.Size(
            keys=1_000, accesses=2_000, chunk=1_000, passes=1, stall_calls=100, stall_rounds=2
        )
        rows = million.rows_of(million.measure(size))
        assert million.WANTED == {row.what: row.target for row in rows if row.target}

    def test_a_failure_keeps_the_rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fails(*arguments: object) -> None:
            raise Unavailable("out of memory")

        monkeypatch.setattr(million, "run_child", fails)
        assert ["not run"] * len(million.WANTED) == [row.verdict for row in million.run(million.QUICK)[0]]


def rotated(numbers: list[int]) -> list[int]:
    """Two passes that began elsewhere, as if they had begun at 0."""
    start = numbers.index(0)
    return (numbers[start:] + numbers[:start]) if start else numbers


class TestMemory:
    @pytest.mark.skipif(not memory.STATM.exists(), reason="resident memory is read from /proc")
    def test_sees_what_is_allocated(self) -> None:
        before = memory.resident_bytes()
        block = bytearray(b"x") * 50_000_000
        assert 45_000_000 < memory.resident_bytes() - before
        del block

    def test_keys_are_fresh(self) -> None:
        first, again = list(memory.keys(0, 2)), list(memory.keys(0, 2))
        assert first == again
        assert first[0] is not again[0]


class TestStart:
    def test_prints_both_targets(self) -> None:
        rows, samples = startup.run(rounds=1)
        assert [targets.IMPORT_MS, targets.FOREIGN_MODULES] == [row.target for row in rows]
        assert {startup.BARE: 1, startup.IMPORT: 1} == {code: len(values) for code, values in samples.items()}

    def test_names_what_comes_from_elsewhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            startup, "FOREIGN", startup.FOREIGN.replace("import fastlimit", "import fastlimit, pluggy")
        )
        row = startup.run(rounds=1)[0][1]
        assert "missed" == row.verdict
        assert "pluggy" in row.what

    def test_a_failing_import_is_not_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(startup, "FOREIGN", "raise ImportError('broken')")
        assert ["not run"] * 2 == [row.verdict for row in startup.run(rounds=1)[0]]


class TestThreads:
    def test_without_a_free_threaded_python_the_rows_stay(self) -> None:
        rows, _ = threads.run(1, 1, "no-such-python", [0, 1])
        assert ["not run", "not run"] == [row.verdict for row in rows]
        assert "no-such-python" in rows[0].missing
        assert targets.TWO_THREADS_TO_ONE == rows[0].target

    def test_a_python_with_a_gil_is_refused(self, tmp_path: Path) -> None:
        fake = tmp_path / "python"
        fake.write_text("#!/bin/sh\necho True\n")
        fake.chmod(0o755)
        with pytest.raises(Unavailable, match="no free-threaded Python"):
            threads.find_interpreter(str(fake))

    def test_one_without_is_taken_from_the_environment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake = tmp_path / "python"
        fake.write_text("#!/bin/sh\necho False\n")
        fake.chmod(0o755)
        monkeypatch.setenv(threads.VARIABLE, str(fake))
        assert str(fake) == threads.find_interpreter(None)

    def test_one_core_is_not_enough(self) -> None:
        assert "two cores are needed" == threads.run(1, 1, None, [0])[0][0].missing

    def test_ratio_is_of_throughput_within_a_round(self) -> None:
        figures = {"1": [10.0, 20.0, 10.0], "2": [19.0, 38.0, 19.0]}
        rows = threads.rows_of({"allow": figures, "dict.get": figures})
        assert [("pass", 1.9)] == [
            (row.verdict, row.ratio.median) for row in rows if row.target and row.ratio
        ]


class TestPeers:
    def test_one_that_is_not_installed_is_listed_with_its_target(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(peers, "installed", lambda peer: None)
        rows, _ = peers.run(rounds=1)
        assert {"not installed"} == {row.verdict for row in rows}
        assert 2 * len(peers.PEERS) == len(rows)
        assert [targets.PEERS_TO_ALLOW["limits"]] * 4 == [
            row.target for row in rows if row.what.startswith("limits")
        ]

    def test_one_that_fails_is_left_out_with_its_last_words(self) -> None:
        broken = peers.Worker(
            peers.Peer("no such peer", "none", "FixedWindow", "pass", lambda limit, period: {})
        )
        failed: dict[str, str] = {}
        try:
            peers.visit([broken], rounds=2, failed=failed)
        finally:
            broken.close()
        assert {"no such peer": "KeyError: 'no such peer'"} == failed

    def test_ratio_says_how_many_times_longer_the_peer_takes(self) -> None:
        peer = peers.PEERS["floodgate-rs"]
        samples = {f"floodgate-rs, {word}": [100.0, 200.0] for word in peers.WORDS}
        samples |= {f"FixedWindow allow, {word}": [25.0, 50.0] for word in peers.WORDS}
        assert [4.0, 4.0] == [row.ratio.median for row in peers.peer_rows(peer, samples, "") if row.ratio]
