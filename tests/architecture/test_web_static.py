"""The page is plain files that browsers read as they are: no markup from data, nothing inline, nothing from elsewhere,
and as readable as the rest.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from supervisor.logs.events import Cause
from tests.support.source_tree import ROOT

STATIC = ROOT / "supervisor" / "web" / "static"
FILES = sorted(STATIC.iterdir())
SCRIPTS = [path for path in FILES if path.suffix == ".js"]
MAX_LINES = 400
MAX_COLUMNS = 120

FORBIDDEN = {
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser": "text from messages could become markup",
    r"\beval\b|new Function|setTimeout\(['\"]": "text could become code",
    r"https?://(?!www\.w3\.org/2000/svg)": "the page works in a network without a way out",
    r"localStorage|document\.cookie": "the token is kept for one tab only",
    r"\bconsole\.": "left over",
}
"""What no script, page or style may hold, and why."""

every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)


@every_file
@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_what_is_dangerous_is_not_written(path: Path, pattern: str) -> None:
    assert re.findall(pattern, path.read_text()) == [], FORBIDDEN[pattern]


@every_file
def test_it_can_be_read_in_one_sitting(path: Path) -> None:
    lines = path.read_text().splitlines()

    assert len(lines) <= MAX_LINES
    if path.suffix == ".js":
        assert [line for line in lines if len(line) > MAX_COLUMNS] == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_says_at_its_head_what_it_is(path: Path) -> None:
    assert path.read_text().startswith("// ")


def test_nothing_is_inline_so_that_the_policy_can_forbid_it() -> None:
    page = (STATIC / "index.html").read_text()

    assert re.findall(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page) == []


def test_whatever_the_page_refers_to_is_there() -> None:
    page = (STATIC / "index.html").read_text()
    named = set(re.findall(r'"static/([^"]+)"', page))
    imported = {name for path in SCRIPTS for name in re.findall(r'from "\./([^"]+)"', path.read_text())}

    assert named | imported | {"index.html"} == {path.name for path in FILES}


def test_every_cause_has_a_label_and_a_colour_of_its_own() -> None:
    causes = re.findall(r"^  (\w+): \{ label", (STATIC / "causes.js").read_text(), re.MULTILINE)
    tones = re.findall(r"^\.cause-(\w+) \{ --tone: (.+); \}", (STATIC / "style.css").read_text(), re.MULTILINE)

    assert sorted(causes) == sorted(Cause)
    assert {name for name, _ in tones} == {*causes, "unknown"}
    assert len({colour for name, colour in tones if name != "unknown"}) == len(causes)
