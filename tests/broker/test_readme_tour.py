"""README's sixty seconds with RabbitMQ, as written, on a private node."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.rabbitmq import RabbitNode
from tests.support.shells import Shell, with_command
from tests.support.source_tree import ROOT
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq

_TOUR = (ROOT / "README.md").read_text().partition("## Sixty seconds with RabbitMQ")[2].partition("\n## ")[0]
_BLOCKS = dict(re.findall(r"```(\w+)\n(.*?)```", _TOUR, re.DOTALL))
_URL = "amqp://guest:guest@localhost:5672/"


@pytest.fixture
def reader(tmp_path: Path, rabbitmq: RabbitNode) -> Iterator[Shell]:
    """A user who follows the README in a folder of their own."""
    (tmp_path / "preforkd.toml").write_text(_BLOCKS["toml"].replace(_URL, rabbitmq.url))
    (tmp_path / "mail.py").write_text(_BLOCKS["python"])
    path = f"{with_command(tmp_path)}:{os.environ['PATH']}"
    reader = Shell(tmp_path, os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)})
    try:
        yield reader
    finally:
        reader.types("preforkd stop --now")


def test_sixty_seconds_with_rabbitmq_work_as_written(reader: Shell, tmp_path: Path) -> None:
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
