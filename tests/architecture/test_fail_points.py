"""Fail-points are comments: named once, telling what has happened there, and of no effect outside of tests."""

from __future__ import annotations

import ast
import re

import pytest

from tests.support.crash_site import Point, all_points
from tests.support.failpoints.failpoints_runtime import FOLDER, instrumented
from tests.support.source_tree import CODE, ROOT, sources, tree

PROCESSES = ("worker", "intermediate", "forkserver", "consumer", "master")
NAME = re.compile(rf"({'|'.join(PROCESSES)})\.[a-z]+(-[a-z]+)*")

every_point = pytest.mark.parametrize("point", all_points(), ids=lambda point: point.name)


@every_point
def test_a_name_tells_the_process_and_the_step(point: Point) -> None:
    assert NAME.fullmatch(point.name)


@every_point
def test_a_point_says_what_has_happened_there(point: Point) -> None:
    assert len(point.says.split()) >= 3


def test_a_name_stands_in_one_place() -> None:
    names = [point.name for point in all_points()]

    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_every_process_has_some() -> None:
    assert {point.process for point in all_points()} == set(PROCESSES)


def test_every_comment_that_means_a_point_is_one() -> None:
    lines = [line for path in sources(*CODE) for line in (ROOT / path).read_text().splitlines()]

    assert len([line for line in lines if "fail-point" in line]) == len(all_points()), "a marker is misspelt"


@pytest.mark.parametrize("path", sorted({point.path for point in all_points()}), ids=str)
def test_a_compiled_point_changes_nothing_but_its_own_line(path: object) -> None:
    before = (ROOT / str(path)).read_text().splitlines()
    after = instrumented("\n".join(before)).splitlines()

    changed = [old for old, new in zip(before, after, strict=True) if old != new]
    assert all(line.strip().startswith("# fail-point: ") for line in changed)
    calls = [node for node in ast.walk(ast.parse("\n".join(after))) if isinstance(node, ast.Call)]
    assert sum(ast.unparse(call).startswith("__import__('failpoints_runtime').hit(") for call in calls) == len(changed)


def test_nothing_in_the_daemon_knows_how_to_arm_them() -> None:
    over_limit = [
        path for path in sources(*CODE) if FOLDER in ast.unparse(tree(path)) or "failpoints" in ast.unparse(tree(path))
    ]

    assert over_limit == []
