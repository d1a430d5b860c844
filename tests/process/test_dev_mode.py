"""Development mode of Python finds nothing left open: every file and socket is closed by the process that opened it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.site import Site, make_site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with make_site(tmp_path) as site:
        site.environment["PYTHONDEVMODE"] = "1"
        yield site


def test_nothing_is_left_open_by_the_daemon_and_its_commands(site: Site) -> None:
    site.ok("start")
    site.ok("publish", "mail", stdin="hello\n")
    site.wait_for_counter("done", 1)
    for words in (("status",), ("exits",), ("why", "mail"), ("top", "--once"), ("dead", "list", "mail"), ("stop",)):
        done = site.cli(*words)
        assert "ResourceWarning" not in done.stderr, words
    assert "ResourceWarning" not in site.log_path.read_text()
