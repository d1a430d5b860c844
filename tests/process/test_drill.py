"""The drill, as a user runs it: real processes, every fault, and the audit."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path: the daemon's sockets are some levels below it."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="drill-") as name:
        yield Path(name)


def drill(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "supervisor", "drill", *arguments],
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.mark.parametrize("policy", ["retry", "park"])
def test_nothing_is_lost_or_run_twice_undeclared_whatever_the_drill_does(folder: Path, policy: str) -> None:
    done = drill(folder, "--messages", "600", "--seed", "11", "--on-crash", policy)

    assert done.returncode == 0, done.stdout + done.stderr
    audit = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"audit: sent=600 effects=\d+ lost=0 duplicated=0 declared=\d+ parked=\d+ dead=\d+", audit), (
        audit
    )


def test_with_park_a_crashed_message_is_set_aside_and_has_no_second_effect_by_a_crash(folder: Path) -> None:
    done = drill(folder, "--messages", "300", "--seed", "5", "--on-crash", "park")

    parked = int(re.findall(r"parked=(\d+)", done.stdout)[-1])
    assert parked >= 18  # six kinds of deaths in mid-message, three each


def test_a_drill_leaves_nothing_behind_when_it_passes(folder: Path) -> None:
    done = drill(folder, "--messages", "200", "--seed", "3")

    assert done.returncode == 0, done.stdout + done.stderr
    assert list(folder.iterdir()) == []


def test_an_unreachable_broker_is_named_without_a_traceback(folder: Path) -> None:
    done = drill(folder, "--messages", "200", "--broker", "amqp://guest:s3cret@127.0.0.1:1/")

    assert done.returncode != 0
    assert "127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "s3cret" not in done.stdout + done.stderr
