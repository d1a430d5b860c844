"""README's sixty seconds with RabbitMQ, as written, on a private node."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.rabbitmq import RabbitNode
from tests.support.source_tree import ROOT
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq

_TOUR = (ROOT / "README.md").read_text().partition("## Sixty seconds with RabbitMQ")[2].partition("\n## ")[0]
_BLOCKS = dict(re.findall(r"```(\w+)\n(.*?)```", _TOUR, re.DOTALL))
_URL = "amqp://guest:guest@localhost:5672/"


class Reader:
    """Somebody who follows README in a folder of his own."""

    def __init__(self, folder: Path, node: RabbitNode) -> None:
        self._folder = folder
        (folder / "preforkd.toml").write_text(_BLOCKS["toml"].replace(_URL, node.url))
        (folder / "mail.py").write_text(_BLOCKS["python"])
        command = folder / "bin" / "preforkd"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m supervisor "$@"\n')
        command.chmod(0o755)
        self._environment = os.environ | {"PATH": f"{command.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}

    def types(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a shell command."""
        return subprocess.run(
            ["sh", "-c", command],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def ok(self, command: str) -> str:
        """Run a shell command that must succeed; what it says."""
        done = self.types(command)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def reader(tmp_path: Path, rabbitmq: RabbitNode) -> Iterator[Reader]:
    reader = Reader(tmp_path, rabbitmq)
    try:
        yield reader
    finally:
        reader.types("preforkd stop --now")


def test_sixty_seconds_with_rabbitmq_work_as_written(reader: Reader, tmp_path: Path) -> None:
    start, publish, status, listing, retry, drill = _BLOCKS["sh"].splitlines()
    assert drill.startswith(f"preforkd drill --broker {_URL}"), "tests of its own prove the drill"

    assert reader.ok(start).startswith("preforkd is ready, pid ")
    assert reader.ok(publish) == "published 2 message(s) to email\n"
    eventually(lambda: "no recipient" in reader.ok(listing), "the message without a recipient is dead")
    sent = eventually(lambda: list((tmp_path / "sent").iterdir()), "the other one is sent")
    assert [path.read_text() for path in sent] == ["a@example.org"]
    shown = reader.ok(status)
    assert "pool email: ok" in shown
    assert "1 done" in shown
    (dead,) = [line.split()[0] for line in reader.ok(listing).splitlines() if "no recipient" in line]
    assert "cause: reject" in reader.ok(f"preforkd dead show email {dead}")
    assert "1 message(s) moved from email.dead back to email" in reader.ok(retry)
    eventually(lambda: "no recipient" in reader.ok(listing), "it is still without a recipient")
    assert reader.ok(f"preforkd dead drop email {dead}").startswith("1 message(s) deleted")
    assert "finished" in reader.ok("preforkd stop")
