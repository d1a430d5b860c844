"""A log file read from its end and as it grows: any size, rotation as logrotate does it, files that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path

import pytest

from supervisor.cli.logs.lines import Line
from supervisor.cli.logs.log_file import LogFile
from supervisor.errors import StateError


def everything(line: Line) -> bool:
    return True


def last(path: Path, number: int, wanted: Callable[[Line], bool] = everything) -> list[str]:
    with closing(LogFile(path)) as log:
        return [line.text for line in log.last(number, wanted, to_follow=False)]


def new(log: LogFile) -> list[str]:
    return [line.text for line in log.new()]


def add(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


Followed = Callable[..., LogFile]


@pytest.fixture
def followed(path: Path) -> Iterator[Followed]:
    """Gives the log at `path` when its last lines were read."""
    with ExitStack() as opened:

        def read(number: int = 5) -> LogFile:
            log = opened.enter_context(closing(LogFile(path)))
            list(log.last(number, everything, to_follow=True))
            return log

        yield read


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "preforkd.log"


# ---- the last lines -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "\n", "\n\n", "a\n", "a", "a\nb\n", "a\n\nb\n", "\na\nb", "a\r\nb\n"])
@pytest.mark.parametrize("number", [1, 2, 3, 0])
def test_the_last_lines_are_those_of_the_whole_text(path: Path, text: str, number: int) -> None:
    path.write_bytes(text.encode())
    whole = text.removesuffix("\n").split("\n") if text else []
    assert last(path, number) == whole[-number:]


@pytest.mark.parametrize("size", [1, 63, 1000, 65535, 65536, 65537, 1_000_000])
@pytest.mark.parametrize("number", [1, 7, 0])
def test_lines_of_any_length_are_whole(path: Path, size: int, number: int) -> None:
    lines = [f"{at}{'x' * size}" for at in range(9)]
    path.write_text("\n".join(lines) + "\n")
    assert last(path, number) == lines[-number:]


def test_a_file_without_an_end_of_line_is_read_in_pieces(path: Path) -> None:
    path.write_bytes(b"x" * 5_000_000)
    assert "".join(last(path, 9)) == "x" * 5_000_000


def test_only_wanted_lines_count(path: Path) -> None:
    path.write_text("".join(f"{at % 2}{at}\n" for at in range(100_000)))
    assert last(path, 2, lambda line: line.text.startswith("1")) == ["199997", "199999"]


@pytest.mark.parametrize("older", ["preforkd.log.1", "preforkd.log-20261130", "preforkd.log-20261130-1712"])
@pytest.mark.parametrize("number", [4, 0])
def test_lines_before_the_last_rotation_are_found(path: Path, older: str, number: int) -> None:
    path.with_name(older).write_text("a\nb\nc\n")
    path.write_text("d\ne\n")
    assert last(path, number) == (["b", "c", "d", "e"] if number else ["a", "b", "c", "d", "e"])


def test_the_youngest_former_file_is_read_and_no_compressed_one(path: Path) -> None:
    for name, at_s in (("preforkd.log.2", 1), ("preforkd.log.1", 2), ("preforkd.log.3.gz", 3), ("other.log.1", 4)):
        path.with_name(name).write_text(f"{name}\n")
        os.utime(path.with_name(name), (at_s, at_s))
    path.write_text("d\n")
    assert last(path, 9) == ["preforkd.log.1", "d"]


def test_a_file_that_is_moved_while_it_is_read_is_not_read_twice(path: Path) -> None:
    path.write_text("a\nb\n")
    with closing(LogFile(path)) as log:
        path.rename(path.with_name("preforkd.log.1"))
        assert [line.text for line in log.last(9, everything, to_follow=False)] == ["a", "b"]


@pytest.mark.parametrize("name", ["[a].log", "a*.log", "a?.log"])
def test_a_name_with_signs_of_patterns_is_only_a_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.log.1").write_text("other\n")
    (tmp_path / "ab.log.1").write_text("other\n")
    (tmp_path / name).write_text("own\n")
    (tmp_path / f"{name}.1").write_text("former\n")
    assert last(tmp_path / name, 9) == ["former", "own"]


# ---- new lines ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 0])
def test_every_line_comes_once_while_the_file_grows(path: Path, number: int, followed: Followed) -> None:
    path.write_text("a\nb\n")
    log = followed(number)
    assert new(log) == []
    add(path, "c\nd\n")
    assert new(log) == ["c", "d"]
    assert new(log) == []


@pytest.mark.parametrize("number", [1, 0])
def test_a_line_that_is_being_written_comes_when_it_is_whole(path: Path, number: int) -> None:
    path.write_text("a\nhal")
    with closing(LogFile(path)) as log:
        assert [line.text for line in log.last(number, everything, to_follow=True)] == ["a"]
        assert new(log) == []
        add(path, "f\n")
        assert new(log) == ["half"]


def test_the_new_file_is_read_after_a_rotation_and_the_former_one_to_its_end(path: Path, followed: Followed) -> None:
    path.write_text("a\n")
    log = followed()
    moved = path.with_name("preforkd.log.1")
    path.rename(moved)
    add(moved, "b\n")  # the writer has it open until its next line
    assert new(log) == ["b"]
    add(moved, "c\n")
    path.write_text("d\n")
    assert new(log) == ["c", "d"]
    add(path, "e\n")
    assert new(log) == ["e"]


def test_rotations_are_followed_again_and_again(path: Path, followed: Followed) -> None:
    path.write_text("")
    log = followed()
    numbers = count()
    for _ in range(5):
        number = next(numbers)
        add(path, f"{number}\n")
        assert new(log) == [str(number)]
        path.rename(path.with_name("preforkd.log.1"))
        path.write_text("")
        assert new(log) == []


def test_a_file_that_is_cut_is_read_from_its_beginning(path: Path, followed: Followed) -> None:
    path.write_text("a long line before\n")
    log = followed()
    path.write_text("b\n")  # the same file, as copytruncate leaves it
    assert new(log) == ["b"]


def test_a_log_that_is_not_there_yet_is_waited_for(path: Path, followed: Followed) -> None:
    log = followed()
    assert new(log) == []
    path.write_text("a\n")
    assert new(log) == ["a"]


# ---- files that cannot be read ------------------------------------------------------------------------------------


def test_a_missing_log_is_an_error_unless_it_is_followed(path: Path) -> None:
    with pytest.raises(StateError, match="log: there is no such log yet"):
        last(path, 9)


def test_a_fifo_is_refused_at_once(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(StateError, match="cannot be read again: this is no regular file"):
        LogFile(path)


def test_a_folder_is_refused(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StateError, match="this is no regular file"):
        LogFile(path)
