"""The progress board: each process's own word, read by another opening of the same file."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.errors import StateError
from supervisor.scoreboard.board import CONSUMER, FORKSERVER, Board
from supervisor.system.clock import monotonic_s


def test_no_worker_has_made_progress_on_a_new_board(tmp_path: Path) -> None:
    board = Board(tmp_path / "board")
    assert (board.beat_s(CONSUMER), board.beat_s(FORKSERVER)) == (0.0, 0.0)


def test_each_beat_moves_its_own_word(tmp_path: Path) -> None:
    consumer, master = Board(tmp_path / "board"), Board(tmp_path / "board")
    before_s = monotonic_s()
    consumer.beat(CONSUMER)
    assert before_s <= master.beat_s(CONSUMER) <= monotonic_s()
    assert master.beat_s(FORKSERVER) == 0.0
    before_s = monotonic_s()
    consumer.beat(FORKSERVER)
    assert before_s <= master.beat_s(FORKSERVER) <= monotonic_s()


def test_a_beat_from_another_boot_is_no_beat(tmp_path: Path) -> None:
    board = Board(tmp_path / "board")
    board._words[CONSUMER] = int((monotonic_s() + 1000) * 1e9)
    assert board.beat_s(CONSUMER) == 0.0


def test_something_else_in_its_place_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "board").write_bytes(b"something else")
    assert Board(tmp_path / "board").beat_s(CONSUMER) == 0.0
    assert (tmp_path / "board.damaged").read_bytes() == b"something else"


def test_a_missing_folder_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"pools/email/board: cannot be mapped: No such file"):
        Board(tmp_path / "pools" / "email" / "board")
