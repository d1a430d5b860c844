"""The tutorial, followed word for word by a user without root in an empty folder; what it shows is compared."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest

from tests.support.nobody import ordinary_home
from tests.support.pages import Block, blocks
from tests.support.shells import Shell
from tests.support.shown_output import shows
from tests.support.source_tree import ROOT
from tests.support.waiting import eventually

PAGE = ROOT / "docs/tutorial.md"
FOLDER = "/home/ada/shop"
LOOKS = ("preforkd exits", "preforkd why", "preforkd status", "preforkd dead list", "grep")
"""Commands that change nothing: a reader may type them again while there is something to wait for."""


@pytest.fixture
def reader() -> Iterator[Shell]:
    with ordinary_home() as home:
        try:
            yield home
        finally:
            home.types("preforkd stop --now")


def test_the_tutorial_works_as_written(reader: Shell) -> None:
    steps = blocks(PAGE)
    assert {block.language for block in steps} == {"sh", "python", "toml", "text"}
    for block, following in pairwise([*steps, None]):
        if block.language in ("python", "toml"):
            (reader.folder / file_name(block)).write_text(block.text)
        elif block.language == "sh":
            follow(reader, block, following if following and following.language == "text" else None)

    assert reader.types("preforkd status").returncode == 3, "the tutorial stops what it has started"


def follow(reader: Shell, block: Block, shown: Block | None) -> None:
    """Type the commands of a block, and see what the page shows below it."""
    if shown is None:
        reader.ok(block.text)
        return
    seen: list[str] = []

    def as_shown() -> bool:
        done = reader.types(block.text)
        seen.append(done.stdout + done.stderr)
        return shows(shown.text, seen[-1], str(reader.folder), FOLDER)

    try:
        if all(line.startswith(LOOKS) for line in block.text.splitlines()):
            eventually(as_shown, block.place, timeout_s=40)
        else:
            assert as_shown()
    except AssertionError:
        raise AssertionError(f"{block.place} shows\n{shown.text}\nbut it printed\n{seen[-1]}") from None


def file_name(block: Block) -> str:
    """The file that the reader writes: its name stands in the first line."""
    first = block.text.splitlines()[0]
    assert first.startswith("# "), f"{block.place}: the first line names the file"
    return first.removeprefix("# ")


def test_output_that_differs_in_more_than_times_and_numbers_is_told() -> None:
    shown = "a/…  12  timeout  1.2s  2026-11-30T08:44:21.061Z\n…\nend\n"

    assert shows(shown, "a/0  4711  timeout    3s  2027-01-01T00:00:00.000Z\nend\n", "/tmp/x", FOLDER)
    assert shows(shown, "a/1  4711  timeout    3s  2027-01-01T00:00:00.000Z\nmore\nand\nend\n", "/tmp/x", FOLDER)
    assert not shows(shown, "a/0  4711  crash    3s  2027-01-01T00:00:00.000Z\nend\n", "/tmp/x", FOLDER)
    assert not shows(shown, "a/0  4711  timeout  3s  2027-01-01T00:00:00.000Z\nend\nmore\n", "/tmp/x", FOLDER)
    assert shows(f"{FOLDER}/x\n", "/tmp/x/x\n", "/tmp/x", FOLDER)
