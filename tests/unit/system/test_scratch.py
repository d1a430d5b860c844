"""Where a command's own files go: the usual folders, then others; never where a socket could not be made."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from supervisor.errors import StateError
from supervisor.system.scratch import scratch_folder


@pytest.fixture
def no_tmp(monkeypatch: pytest.MonkeyPatch) -> None:
    """No usual folder can be written."""
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/none"])
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_tmpdir_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert scratch_folder("x-", "a test", [Path("/proc/none")]).parent == tmp_path


def test_the_first_other_place_that_can_be_written_is_taken(tmp_path: Path, no_tmp: None) -> None:
    folder = scratch_folder("x-", "a test", [Path("/proc/none"), tmp_path])
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_place_with_a_path_too_long_for_a_socket_is_left_out(tmp_path: Path, no_tmp: None) -> None:
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    with pytest.raises(StateError, match=r"a socket in it has at most 107 bytes"):
        scratch_folder("x-", "a test", [deep], "run/control.sock")
    assert list(deep.iterdir()) == []
    assert scratch_folder("x-", "a test", [deep]).parent == deep


def test_no_place_at_all_is_an_error_with_what_to_do(no_tmp: None) -> None:
    with pytest.raises(StateError, match=r"no folder for a test: .* /proc/none; name one in TMPDIR"):
        scratch_folder("x-", "a test", [Path("/proc/none")])
