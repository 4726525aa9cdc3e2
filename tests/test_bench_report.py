"""What the bench prints and writes: table, JSON, chart, exit status."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from bench import __main__ as command
from bench import cases, chart, harness, peers, report, targets
from bench.harness import Summary
from bench.rows import Row, missing_rows, value_row


def one(value: float) -> Summary:
    return Summary(value, value, value)


class TestTable:
    def test_shows_a_missed_target_beside_its_bound(self) -> None:
        row = Row(
            "slow",
            value=one(90.0),
            ratio=Summary(2.5, 2.4, 2.6),
            against="dict.get",
            target=targets.at_most(1.4),
        )
        expected = ("slow", "90", "ns", "2.50 x", "dict.get", "2.40 .. 2.60", "<= 1.4 x", "missed")
        assert expected == report.cells(row)
        assert "  ".join(expected[4:]) in report.table("Title", [row])

    def test_shows_why_a_row_did_not_run(self) -> None:
        rows = missing_rows([("x", targets.TWO_THREADS_TO_ONE)], "no such Python")
        *_, line, reason = report.table("Title", rows).splitlines()
        assert line.endswith(">= 1.8 x  not run")
        assert "not run: no such Python" == reason

    def test_quartiles_are_those_of_the_judged_figure(self) -> None:
        row = Row("x", value=Summary(11.0, 10.0, 13.0), ratio=one(3.0), target=targets.HANDLE_NS)
        assert "10 .. 13" == report.cells(row)[5]

    @pytest.mark.parametrize(
        ("expected", "value"),
        [("1,234", 1234.4), ("123", 123.4), ("12.3", 12.34), ("1.23", 1.234), ("0", 0.0)],
    )
    def test_numbers(self, expected: str, value: float) -> None:
        assert expected == report.number(value)

    def test_json_holds_circumstances_rows_and_samples(self) -> None:
        rows = {"hot": [value_row("x", "ns", [1.23456], targets.HANDLE_NS)]}
        text = report.as_json(
            report.circumstances([0, 1], quick=True), rows, {"hot": {"x": [1.0, 1.23456, 2.0]}}
        )
        document = json.loads(text)
        assert {"date", "quick", "machine", "versions", "rows", "samples"} == set(document)
        assert 0 == document["machine"]["pinned_to_core"]
        expected = {"samples": 3, "median": 1.2346, "low": 1.1173, "high": 1.6173}
        assert {"x": expected} == document["samples"]["hot"]
        assert ("pass", "<= 12 ns") == tuple(document["rows"]["hot"][0][key] for key in ("verdict", "target"))
        assert set(document["versions"]) >= {peer.distribution for peer in peers.PEERS.values()}


def chart_rows() -> dict[str, list[Row]]:
    hot = [Row(f"floor: {cases.NO_OP}", value=one(20.0)), Row(f"floor: {cases.DICT_GET}", value=one(27.0))]
    hot += [Row(f"{name} allow, {word}", value=one(30.0)) for name in cases.AMPLE for word in chart.WORDS]
    rivals = [Row(f"limits fixed, {word}", value=one(2700.0)) for word in chart.WORDS]
    return {"hot": hot, "peers": rivals}


class TestChart:
    def test_is_well_formed_and_has_two_bars_for_each_limiter(self) -> None:
        root = ElementTree.fromstring(chart.svg(chart_rows(), "<machine> & Python"))
        kinds = [element.get("class") for element in root.iter("{http://www.w3.org/2000/svg}rect")]
        assert ["ours allowed", "ours denied"] * 4 + ["peer allowed", "peer denied"] == kinds
        assert "<machine> & Python" in [
            element.text for element in root.iter("{http://www.w3.org/2000/svg}text")
        ]

    def test_marks_both_floors(self) -> None:
        root = ElementTree.fromstring(chart.svg(chart_rows(), ""))
        lines = [element.get("class") for element in root.iter("{http://www.w3.org/2000/svg}line")]
        assert 2 == lines.count("floor")

    def test_a_longer_time_is_a_longer_bar(self) -> None:
        assert chart.scale(100.0, 10.0, 10_000.0) < chart.scale(1_000.0, 10.0, 10_000.0)

    def test_is_refused_without_peers(self) -> None:
        with pytest.raises(ValueError, match="peers"):
            chart.svg({"hot": chart_rows()["hot"]}, "")


class TestCommand:
    def test_an_unknown_section_is_named(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            command.arguments(["--only", "hot,nonsense"])
        assert "not nonsense" in capsys.readouterr().err

    def test_the_chart_needs_its_sections(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            command.arguments(["--only", "hot", "--publish"])
        assert "hot and peers" in capsys.readouterr().err

    def test_publishing_names_both_files(self) -> None:
        options = command.arguments(["--publish"])
        assert ("docs/bench.svg", "docs/evidence/bench.json") == tuple(
            str(path.relative_to(harness.ROOT)) for path in (options.svg, options.json)
        )

    @pytest.mark.parametrize(("expected", "ratio"), [(0, 1.0), (1, 9.0)])
    def test_ends_with_status_1_if_a_target_is_missed(
        self, expected: int, ratio: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        row = Row("x", value=one(9.0), ratio=one(ratio), against="y", target=targets.ALLOW_TO_NO_OP)
        monkeypatch.setattr(command, "sections", lambda *arguments: {"hot": lambda: ([row], {})})
        monkeypatch.setattr(command, "pin", lambda *allowed: None)
        assert expected == command.main(["--only", "hot"])
        assert f"{1 - expected} targets reached, {expected} missed, 0 not run" in capsys.readouterr().out
