"""The applications of etc/examples/publish behind their own servers, while the broker is killed again and again.

PREFORKD_SOAK kills it ten times instead of twice.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.rabbit_daemon import rabbit_daemon
from tests.support.rabbitmq import RabbitNode, free_port
from tests.support.source_tree import ROOT
from tests.support.waiting import eventually

pytestmark = [pytest.mark.rabbitmq, pytest.mark.timeout(600)]

EXAMPLES = ROOT / "etc/examples/publish"
KILLS = 10 if os.environ.get("PREFORKD_SOAK") else 2
SERVERS = {
    "django": (
        "gunicorn --preload --workers 2 --threads 4 --no-control-socket --bind 127.0.0.1:{port} django_shop:application"
    ),
    "fastapi": "uvicorn --host 127.0.0.1 --port {port} --log-level warning fastapi_shop:app",
}
"""With `--preload` the client is made before gunicorn forks."""

_ANSWER_S = 30.0


class Shop:
    """Requests for orders to one application, from several customers at a time."""

    def __init__(self, port: int, first: int) -> None:
        self.port = port
        self.accepted: list[int] = []
        self.refused = 0
        self._next = first
        self._guard = threading.Lock()
        self._over = threading.Event()
        self._customers = [threading.Thread(target=self._order_until_over) for _ in range(3)]

    def open(self) -> None:
        eventually(self.answers, "the application answers", timeout_s=30)
        for customer in self._customers:
            customer.start()

    def close(self) -> None:
        """End once each order is accepted."""
        self._over.set()
        for customer in self._customers:
            customer.join(120)

    def answers(self) -> bool:
        with suppress(OSError):
            return self._status("/nothing") == 404
        return False

    def _order_until_over(self) -> None:
        while not self._over.is_set():
            with self._guard:
                number = self._next
                self._next += 1
            while self._status(f"/orders/{number}") != 202:  # a customer asks until the order is accepted
                self.refused += 1
            self.accepted.append(number)

    def _status(self, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_ANSWER_S)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()


@contextmanager
def served(name: str, broker_url: str, queue: str, folder: Path) -> Iterator[int]:
    """An application behind its server, which is gone at the end; its port."""
    port = free_port()
    command = [sys.executable, "-m", *SERVERS[name].format(port=port).split()]
    environment = {**os.environ, "BROKER_URL": broker_url, "QUEUE": queue, "PYTHONPATH": str(ROOT)}
    with (folder / f"{name}.log").open("ab") as log:
        server = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command], cwd=EXAMPLES, env=environment, stdout=log, stderr=log
        )
    try:
        yield port
    except BaseException:
        print((folder / f"{name}.log").read_text()[-3000:])  # noqa: T201
        raise
    finally:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(20)
        server.kill()
        server.wait()


def test_every_order_that_a_web_application_accepts_runs_exactly_once_though_the_broker_is_killed(
    tmp_path: Path, own_rabbitmq: RabbitNode
) -> None:
    orders = tmp_path / "orders"
    orders.touch()
    options = {
        "module": "etc.examples.publish.handlers",
        "handler": "ship",
        "environment": {"ORDERS": orders},
        "log": "info",
    }
    with rabbit_daemon(tmp_path, own_rabbitmq, "workers = 2", **options) as daemon:
        own_rabbitmq.keep_queues()
        with (
            served("django", own_rabbitmq.url, daemon.queue, tmp_path) as django,
            served("fastapi", own_rabbitmq.url, daemon.queue, tmp_path) as fastapi,
        ):
            shops = [Shop(django, 0), Shop(fastapi, 1_000_000)]
            try:
                for shop in shops:
                    shop.open()
                for _ in range(KILLS):
                    before = [len(shop.accepted) for shop in shops]
                    eventually(
                        lambda before=before: all(  # type: ignore[misc]
                            len(shop.accepted) > count + 20 for shop, count in zip(shops, before, strict=True)
                        ),
                        "orders are accepted",
                        timeout_s=60,
                    )
                    own_rabbitmq.restart()
            finally:
                for shop in shops:
                    shop.close()
        accepted = sorted(shops[0].accepted + shops[1].accepted)
        eventually(lambda: len(ran(orders)) >= len(accepted), "all orders have run", timeout_s=60)
        eventually(daemon.settled, "nothing is left")

        runs = Counter(number for number, _id, _attempt in ran(orders))
        assert [number for number in accepted if runs[number] != 1] == []
        assert runs.keys() == set(accepted)
        print(f"{len(accepted)} orders, {sum(shop.refused for shop in shops)} refused answers, {KILLS} kills")  # noqa: T201


def ran(orders: Path) -> list[tuple[int, str, int]]:
    """The runs that the handler has noted: number, id of the message, attempt."""
    lines = [line.split() for line in orders.read_text().splitlines()]
    return [(int(number), message_id, int(attempt)) for number, message_id, attempt in lines]
