"""A consumer with another pika than the faster way of receiving needs: every message is run once, with a warning."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.support.rabbit_daemon import rabbit_daemon
from tests.support.rabbitmq import RabbitNode

pytestmark = pytest.mark.rabbitmq

COUNT = 200

ALTERED = """
import sys
from importlib.abc import MetaPathFinder


class Altered(MetaPathFinder):
    '''Gives Connection's buffer another name, as a later pika may.'''

    def find_spec(self, name, path=None, target=None):
        if name != "supervisor.brokers.amqp.pika_check":
            return None
        sys.meta_path.remove(self)
        import pika.connection
        import pika.frame

        def received(self, data):
            self._rest = getattr(self, "_rest", b"") + data
            while self._rest:
                size, frame = pika.frame.decode_frame(self._rest)
                if not frame:
                    return
                self._rest = self._rest[size:]
                self._process_frame(frame)

        pika.connection.Connection._on_data_available = received
        return None


sys.meta_path.insert(0, Altered())
"""


def test_another_pika_delivers_every_message_once_and_is_told(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    (tmp_path / "altered").mkdir()
    (tmp_path / "altered/sitecustomize.py").write_text(ALTERED)
    with rabbit_daemon(tmp_path, rabbitmq, "workers = 2", start=False) as daemon:
        daemon.start(prefix=f"export PYTHONPATH={shlex.quote(str(tmp_path / 'altered'))}; exec ")
        ids = [f"m{number}" for number in range(COUNT)]
        daemon.send_all([daemon.order("nothing", message_id=id) for id in ids])
        daemon.wait_done(*ids)
        assert [len(daemon.runs(id)) for id in ids] == [1] * COUNT
        (told,) = daemon.events("consumer.slower")
        assert "is not as the faster way of receiving needs it" in told["message"]
        assert told["level"] == "warning"
