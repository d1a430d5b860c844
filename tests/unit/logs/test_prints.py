"""What user code prints is in the log line by line, with its run; and nothing that is written there comes back."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from supervisor.config.schema import LogConfig
from supervisor.logs import prints, structured
from supervisor.logs.prints import LINE_CHARACTERS, _Prints
from supervisor.logs.run_fields import run_fields
from tests.support.logging_state import logging_as_before
from tests.unit.logs.test_run_fields import FIELDS, RUN


class Bench:
    """The streams of worker email/3 with a run under way, and the log. Inside of `with`, they are this process's."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.below = io.StringIO(), io.StringIO()
        self.prints = _Prints()

    def __enter__(self) -> None:
        self._former = sys.stdout, sys.stderr
        self.prints.replace(self.below)

    def __exit__(self, *_error: object) -> None:
        sys.stdout, sys.stderr = self._former

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._file.read_text().splitlines()]

    def texts(self) -> list[str]:
        return [line["message"] for line in self.lines()]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with logging_as_before():
        logging.getLogger().handlers[:] = []  # pytest's own
        structured.configure(LogConfig(level="error", format="json", file=str(tmp_path / "log")), "worker email/3")
        own = structured.own_handlers()
        run_fields.of_process("email", 3)
        run_fields.begin(RUN)
        try:
            yield Bench(tmp_path / "log")
        finally:
            run_fields.end()
            run_fields.of_process("")
            for line_handler in own:
                line_handler.close_target()


def test_a_printed_line_is_a_line_of_the_log_with_the_fields_of_its_run_whatever_the_level(bench: Bench) -> None:
    with bench:
        print("100 %", "done")
        print("odd", file=sys.stderr)

    first, second = bench.lines()
    assert (first["message"], first["level"], first["logger"]) == ("100 % done", "info", "stdout")
    assert (second["message"], second["level"], second["logger"]) == ("odd", "warning", "stderr")
    assert FIELDS.items() <= first.items()
    assert FIELDS.items() <= second.items()


def _raise() -> None:
    try:
        raise ValueError("as ordered")
    except ValueError:
        traceback.print_exc()


WRITES: dict[str, tuple[Callable[[], object], list[str]]] = {
    "several lines": (lambda: print("a\n  b\r\nc"), ["a", "  b", "c"]),
    "pieces": (lambda: [sys.stdout.write(piece) for piece in ("a", "b\nc", "d\n")], ["ab", "cd"]),
    "empty lines": (lambda: print("\n\na\n"), ["a"]),
    "bytes": (lambda: [sys.stdout.buffer.write(piece) for piece in (b"\xc3", b"\xa4\xff\n")], ["ä\\xff"]),
    "a flushed part": (lambda: print("half", end="", flush=True), ["half"]),
    "lines of a list": (lambda: sys.stdout.writelines(["a\n", "b\n"]), ["a", "b"]),
    "a traceback": (_raise, ["ValueError: as ordered"]),
}


@pytest.mark.parametrize("way", WRITES)
def test_each_line_is_one_record(way: str, bench: Bench) -> None:
    write, expected = WRITES[way]
    with bench:
        write()

    texts = bench.texts()
    if way == "a traceback":
        assert texts[0] == "Traceback (most recent call last):"
        texts = texts[-1:]
    assert texts == expected


def test_a_line_without_an_end_is_logged_at_the_end_of_the_run(bench: Bench) -> None:
    with bench:
        print("half", end="")
        assert bench.lines() == []
        bench.prints.end_run()

    assert bench.texts() == ["half"]
    assert bench.lines()[0]["message_id"] == "order-7"


def test_a_line_that_was_begun_before_a_fork_is_the_parents(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with bench:
        print("of the parent, ", end="")
        monkeypatch.setattr(prints, "getpid", os.getppid)
        print("of the child, ", end="")
        bench.prints.end_run(leaving=True)

    assert bench.texts() == ["of the child, "]


def test_a_line_is_cut_into_records_of_bounded_length_and_nothing_of_it_is_missing(bench: Bench) -> None:
    with bench:
        sys.stdout.write("a" * (LINE_CHARACTERS + 1))
        assert [len(text) for text in bench.texts()] == [LINE_CHARACTERS]
        print("b" * (2 * LINE_CHARACTERS))

    assert "".join(bench.texts()) == "a" * (LINE_CHARACTERS + 1) + "b" * (2 * LINE_CHARACTERS)
    assert max(map(len, bench.texts())) == LINE_CHARACTERS


def test_lines_of_threads_do_not_mix_and_a_thread_that_has_ended_leaves_nothing_behind(bench: Bench) -> None:
    begun, may_end, half = Event(), Event(), Thread(target=print, args=("of a thread",), kwargs={"end": ""})

    def wait() -> None:
        print("still ", end="")
        begun.set()
        may_end.wait(20)
        print("running")

    waits = Thread(target=wait)
    with bench:
        print("of the ", end="")
        for thread in (half, waits):
            thread.start()
        half.join()
        begun.wait(20)
        print("handler")
        bench.prints.end_run()
        assert bench.texts() == ["of the handler", "of a thread"]
        may_end.set()
        waits.join()

    assert bench.texts() == ["of the handler", "of a thread", "still running"]


def test_a_print_in_the_middle_of_a_print_is_logged_after_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a signal's handler does it."""

    def interrupt(record: logging.LogRecord) -> None:
        monkeypatch.undo()
        print("in between")
        run_fields.fill(record)

    monkeypatch.setattr(run_fields, "fill", interrupt)
    with bench:
        sys.stdout.write("first\nsecond\n")

    assert bench.texts() == ["first", "second", "in between"]


def test_what_a_log_handler_of_the_application_writes_goes_on_as_text(bench: Bench) -> None:
    with bench:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message_id)s %(message)s"))
        app = logging.getLogger("with.own.handler")
        app.addHandler(handler)
        app.propagate = False
        print("half a print, ", end="")
        structured.LogGuard("error")
        app.error("own line")
        print("and the rest")

    assert bench.below[1].getvalue() == "order-7 own line\n"
    assert bench.texts() == ["half a print, and the rest"]


def test_prints_are_text_where_user_code_has_taken_the_log_handler_away(bench: Bench) -> None:
    handler = structured.own_handlers()[0]
    logging.getLogger().removeHandler(handler)
    with bench:
        print("here")
    logging.getLogger().addHandler(handler)

    assert bench.below[0].getvalue() == "here\n"


def test_a_stream_is_what_libraries_look_for(bench: Bench) -> None:
    with bench:
        for number, stream in ((1, sys.stdout), (2, sys.stderr)):
            assert (stream.encoding, stream.errors, stream.closed, stream.isatty()) == (
                "utf-8",
                "backslashreplace",
                False,
                False,
            )
            assert (stream.fileno(), stream.buffer.fileno()) == (number, number)
            assert (stream.writable(), stream.readable(), stream.seekable()) == (True, False, False)
            assert stream.name in ("<stdout>", "<stderr>")
            stream.reconfigure(encoding="latin-1", line_buffering=False)  # type: ignore[union-attr]
            with pytest.raises(TypeError, match="must be str, not bytes"):
                stream.write(b"bytes")  # type: ignore[arg-type]
            stream.buffer.flush()
            stream.close()
        print("\udc80", "after close")
        assert bench.texts() == ["\udc80 after close"]
        subprocess.run(["true"], stdout=sys.stdout, stderr=sys.stderr, check=True)


def test_no_stream_is_replaced_where_no_log_relay_reads(bench: Bench) -> None:
    with bench:
        before = sys.stdout
        _Prints().install()
        assert sys.stdout is before
