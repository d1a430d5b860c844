"""What comes out of the log relay's pipe: frames and raw text, in pieces of any size."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.logs.pipe import frames
from supervisor.logs.relay import FRAME_BYTES, LINE, MAGIC, STDERR, STDOUT, Pipe, loss_line

LONG = b"x" * 10_000 + b"\n"


def parsed(data: bytes, *cuts: int) -> list[tuple[int, bytes]]:
    """What becomes of `data` that arrives in pieces; raw text is that of stderr."""
    pipe, found, ends = Pipe(-1, STDERR), [], [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for begin, end in zip([0, *ends], ends, strict=False):
        found += pipe.feed(data[begin:end])
    return [*found, *pipe.rest()]


def joined(found: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Neighbouring lines of raw text put together."""
    whole: list[tuple[int, bytes]] = []
    for kind, text in found:
        if kind == STDERR and whole and whole[-1][0] == STDERR:
            whole[-1] = (STDERR, whole[-1][1] + text)
        else:
            whole.append((kind, text))
    return whole


def test_each_frame_fits_what_a_pipe_takes_in_one_piece() -> None:
    assert {len(frame) <= FRAME_BYTES for frame in frames(LINE, 1, LONG)} == {True}


@given(st.lists(st.integers(0, 10**6), max_size=8))
def test_texts_are_whole_however_the_pipe_is_cut_into_pieces(cuts: list[int]) -> None:
    data = b"raw\n" + b"".join(frames(LINE, 1, LONG)) + b"more" + b"".join(frames(STDOUT, 2, b"printed\n"))
    data += b" and the end\nno more"
    assert joined(parsed(data, *cuts)) == [
        (STDERR, b"raw\n"),
        (LINE, LONG),
        (STDOUT, b"printed\n"),
        (STDERR, b"more and the end\nno more"),
    ]


def test_lines_of_two_processes_that_come_mixed_are_told_apart() -> None:
    one, two = list(frames(LINE, 1, LONG)), list(frames(LINE, 2, LONG.upper()))
    data = b"".join(frame for pair in zip(one, two, strict=True) for frame in pair)
    assert parsed(data) == [(LINE, LONG), (LINE, LONG.upper())]


def test_a_line_whose_writer_was_killed_spoils_none_of_its_successor() -> None:
    data = b"".join([*list(frames(LINE, 1, LONG))[:-1], *frames(LINE, 1, b"whole\n")])
    assert parsed(data) == [(LINE, b"whole\n")]


@pytest.mark.parametrize("raw", [MAGIC[:3], MAGIC[:-1], b"\0" * 20, b"a" + MAGIC[:1]])
def test_raw_text_that_begins_like_a_frame_comes_through(raw: bytes) -> None:
    assert joined(parsed(raw + b"\n", 1, 2, 3)) == [(STDERR, raw + b"\n")]


def test_the_end_of_a_line_without_its_beginning_is_no_text() -> None:
    assert parsed(list(frames(LINE, 1, LONG))[-1]) == []


def test_unfinished_lines_of_many_dead_writers_take_bounded_memory() -> None:
    pipe = Pipe(-1, STDERR)
    for pid in range(1000):
        assert list(pipe.feed(next(frames(LINE, pid, LONG)))) == []
    assert len(pipe._begun) <= 64


def test_a_loss_is_told_as_the_lines_around_it_are() -> None:
    line = json.loads(loss_line("json", "2 lines were lost", 2, 0.25))
    assert (line["at"], line["event"], line["lines"]) == ("1970-01-01T00:00:00.250Z", "log.lost", 2)
    assert "warning log relay" in loss_line("console", "2 lines were lost", 2, 0.25)
    assert loss_line("plain", "2 lines were lost", 2, 0.25) == "preforkd: 2 lines were lost"
