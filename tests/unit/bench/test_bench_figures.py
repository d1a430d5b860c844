"""Tables, digits and judgement of targets."""

from __future__ import annotations

import json

import pytest

from benchmarks.bench.figures import Section, Target, markdown, number


@pytest.mark.parametrize(
    ("value", "outcome"), [(1.3, "aim"), (1.2, "aim"), (1.1, "must"), (0.9, "must"), (0.89, "missed")]
)
def test_a_target_is_reached_from_below(value: float, outcome: str) -> None:
    assert Target("throughput", value, must=0.9, aim=1.2).outcome == outcome


@pytest.mark.parametrize(
    ("value", "outcome"), [(0.5, "aim"), (0.6, "aim"), (0.7, "must"), (1.0, "must"), (1.01, "missed")]
)
def test_a_small_figure_is_good_where_the_target_says_at_most(value: float, outcome: str) -> None:
    assert Target("kill to ready", value, must=1.0, aim=0.6, at_most=True).outcome == outcome


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    assert Target("throughput", None, must=0.9, aim=1.2).outcome == "not measured"


def test_a_target_s_line_says_in_which_direction_it_counts() -> None:
    line = Target("idle", 0.2, must=0.5, aim=0.1, at_most=True, unit="%").line

    assert line == {"target": "idle", "measured": "0.20 %", "must": "≤ 0.50 %", "aim": "≤ 0.10 %", "met": "must"}
    assert Target("speed", 1.0, must=0.9, aim=1.2).line["must"] == "≥ 0.90 x"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12345.6, "12,346"),
        (12345, "12,345"),
        (99.94, "99.9"),
        (1.234, "1.23"),
        (0.0, "0.00"),
        (7, "7"),
        (0.01234, "0.0123"),
        ("n/a", "n/a"),
        (-12345.6, "-12,346"),
    ],
)
def test_a_number_has_as_many_digits_as_mean_something(value: float | str, text: str) -> None:
    assert number(value) == text


def test_columns_come_as_rows_bring_them_and_numbers_stand_right() -> None:
    table = markdown([{"who": "preforkd", "rate": 12000.0}, {"who": "pika", "note": "bare"}])

    assert table.splitlines() == [
        "| who | rate | note |",
        "| --- | ---: | --- |",
        "| preforkd | 12,000 |  |",
        "| pika |  | bare |",
    ]


def test_a_table_without_rows_is_nothing() -> None:
    assert markdown([]) == ""


def test_a_section_reads_as_title_table_targets_and_notes() -> None:
    section = Section("speed", "Speed", [{"who": "preforkd"}], [Target("fast", 1.0, 0.9, 1.2)], ["on one machine"])

    text = section.as_markdown()

    assert text.index("## Speed") < text.index("| preforkd |") < text.index("| fast |") < text.index("- on one machine")


def test_a_section_as_data_has_its_figures_and_its_targets_outcomes() -> None:
    section = Section("speed", "Speed", targets=[Target("fast", 1.0, 0.9, 1.2)])
    section.add("no-op", "preforkd", 12000.0, "/s", "classic")

    data = json.loads(json.dumps(section.as_data()))

    assert data["targets"][0]["outcome"] == "must"
    assert data["figures"] == [
        {"section": "speed", "name": "no-op", "who": "preforkd", "value": 12000.0, "unit": "/s", "note": "classic"}
    ]
