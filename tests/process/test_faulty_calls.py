"""System calls of the master that fail: it names what it could not do, everything else goes on, and it heals.

A daemon whose master's calls are made to fail, one kind after another, once and again and again, with each error of the
call's manual page (`tests/support/faulty_calls.py`). PREFORKD_SOAK=<seed> does all of them, else some are drawn.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from supervisor.system.clock import monotonic_s
from tests.support.daemon import cleaned_up
from tests.support.faulty import Faulty, faulty
from tests.support.faulty_calls import CALLS
from tests.support.waiting import eventually

SOAK = os.environ.get("PREFORKD_SOAK", "")
DRAWN = 6
ALL = [
    (name, error, times)
    for name, errors in CALLS.items()
    for error in errors
    for times in (1, 0)
    if times or error != "ESRCH"  # of a process that is there, no kernel says for ever that it is gone
]


def test_no_call_that_fails_ends_the_master_and_it_heals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ALL if SOAK else random.Random(7).sample(ALL, DRAWN)
    fired = 0
    with faulty(tmp_path) as under_test:
        for name, error, times in chosen:
            under_test.order.give(name, error, times)
            under_test.work(f"while {name} fails with {error}")
            fired += under_test.order.fired
            under_test.order.take_back()
            eventually(under_test.is_well, f"it heals after {name} failed with {error}", 30)
        under_test.send("nothing")
        eventually(lambda: "nothing" in under_test.marked("done"), "messages are done")
        bugs = [line for line in under_test.log_path.read_text().splitlines() if "this is a bug" in line]
        assert bugs == []
        assert under_test.stop() == 0
    with capsys.disabled():
        calls = len({name for name, _error, _times in chosen})
        print(f"\n{calls} calls, {len(chosen)} failures ordered, {fired} of them struck")  # noqa: T201


def test_no_call_that_fails_at_the_start_is_called_a_bug(tmp_path: Path) -> None:
    once = [(name, error) for name, error, times in ALL if times == 1]
    for number, (name, error) in enumerate(once if SOAK else random.Random(3).sample(once, 2)):
        directory = tmp_path / str(number)
        directory.mkdir()
        under_test = Faulty(directory)
        under_test.order.give(name, error, 1)
        with cleaned_up(under_test, start=False):
            under_test.start(ready=False)
            eventually(under_test.has_started_or_said_why, f"it starts, or says why not, when {name} gives {error}")
            text = under_test.log_path.read_text()
            assert "Traceback" not in text, (name, error, text)


def test_status_and_stop_answer_within_a_second_on_a_disk_that_takes_five(tmp_path: Path) -> None:
    with faulty(tmp_path, disk_s=5.0) as under_test:
        for _ in range(3):
            under_test.work("on a slow disk")
            asked_s = monotonic_s()
            under_test.status()
            assert monotonic_s() < asked_s + 1.0
            eventually(under_test.is_well, "the workers are replaced")
        asked_s = monotonic_s()
        assert under_test.ask("stop")["stopping"]
        assert monotonic_s() < asked_s + 1.0
        assert under_test.wait() == 0
