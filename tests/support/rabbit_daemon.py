"""A whole daemon on a real RabbitMQ, and what the broker itself reports of its connections, channels and queues."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pika
import pika.exceptions

from supervisor.brokers import open_admin
from supervisor.config.schema import BrokerConfig
from supervisor.messages.message import Properties, Publication
from tests.support.daemon import ROOT, Daemon, cleaned_up
from tests.support.rabbitmq import RabbitNode
from tests.support.waiting import eventually

HEARTBEAT_S = 2


class Wire(NamedTuple):
    """A connection as the broker knows it. `name`: both ends' addresses; `client`: what the client calls itself."""

    name: str
    client: str
    channels: int
    heartbeat_s: int


class Churn(NamedTuple):
    """What a broker has opened and closed since it started."""

    connections_opened: int
    connections_closed: int
    channels_opened: int
    channels_closed: int


class RabbitDaemon(Daemon):
    """A daemon whose pool `email` consumes a queue of its own on `node`.

    `pool`: lines of `[pools.email]`; `port`, `url`: where the daemon finds the broker, if not at the node's own port.
    `module`, `handler`: what its workers run; `log`: its level; `broker`: lines of `[broker]`; `environment`: of the
    pool; `more`: further tables; `program`: how preforkd is called; `queue`: one that another daemon has, too.
    """

    def __init__(self, directory: Path, node: RabbitNode, pool: str, **options: Any) -> None:
        self.node = node
        self.queue = options.get("queue") or f"job-{uuid4().hex[:8]}"
        self._options = options
        self.program = options.get("program", self.program)
        super().__init__(directory, pool)

    def configure(self, settings: str, daemon: str = "") -> None:
        """Write the configuration; it counts from the next start on."""
        options: dict[str, Any] = {
            "broker": f'heartbeat = "{HEARTBEAT_S}s"',
            "module": "tests.support.job_handlers",
            "handler": "run",
            "port": self.node.port,
            "log": "debug",
        }
        options |= self._options
        environment = {"MARKS": str(self.marks), **options.get("environment", {})}
        self.config_path.write_text(
            f'[daemon]\nstate_dir = "{self.state_dir}"\nruntime_dir = "{self.runtime_dir}"\n'
            f'{options.get("daemon", daemon)}\n[log]\nlevel = "{options["log"]}"\n'
            f'[broker]\nurl = "{options.get("url") or url(options["port"])}"\n{options["broker"]}\n'
            f'[pools.email]\nqueue = "{self.queue}"\nhandler = "{options["module"]}:{options["handler"]}"\n'
            f'path = ["{ROOT}"]\n{settings}\n'
            + ("" if "prefetch" in settings else "prefetch = 50\n")
            + "[pools.email.environment]\n"
            + "".join(f"{name} = {json.dumps(str(value))}\n" for name, value in environment.items())
            + options.get("more", "")
        )

    # ---- work -------------------------------------------------------------------------------------------------------

    def order(self, do: str, *arguments: Any, message_id: str = "", **headers: Any) -> Publication:
        """A message for `job_handlers:run`."""
        body = json.dumps({"do": do, "arguments": arguments}).encode()
        return Publication("", self.queue, Properties(message_id=message_id or do, headers=headers or None), body)

    def send(self, do: str, *arguments: Any, message_id: str = "", **headers: Any) -> None:
        """Publish one order."""
        self.send_all([self.order(do, *arguments, message_id=message_id, **headers)])

    def send_all(self, publications: Iterable[Publication]) -> None:
        """Publish over one connection; every one is confirmed."""
        publications = list(publications)
        with open_admin(BrokerConfig(urls=(self.node.url,)), str(self.state_dir)) as admin:
            report = admin.publish(publications, 100, lambda total: None)
        assert (report.sent, report.failed) == (len(publications), []), report

    def release(self, name: str) -> None:
        """What handlers wait for has happened."""
        (self.marks / name).touch()

    def cli(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run one command of the command line to its end."""
        command = [sys.executable, "-m", "supervisor", "--config", str(self.config_path), *arguments]
        return subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=60)

    def cli_ok(self, *arguments: str, stdin: str = "") -> str:
        """Run a command that must succeed; its output."""
        done = self.cli(*arguments, stdin=stdin)
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def runs(self, message_id: str) -> list[int]:
        """The attempt numbers with which a message has been begun, in order."""
        begun = [line.split() for line in self.marked("begun")]
        return [int(attempt) for name, attempt, _pid in begun if name == message_id]

    def wait_done(self, *message_ids: str, timeout_s: float = 30.0) -> None:
        """Wait until handlers have finished these, in any order."""
        eventually(lambda: set(message_ids) <= set(self.marked("done")), f"{message_ids} are done", timeout_s)

    def counted(self, name: str) -> int:
        """One of the pool's counters; `status` shows them up to a quarter of a second late."""
        return int(self.pool()["counters"][name])

    def wait_counted(self, timeout_s: float = 30.0, **counters: int) -> None:
        """Wait until these counters have these values."""
        eventually(
            lambda: counters.items() <= self.pool()["counters"].items(), f"the counters say {counters}", timeout_s
        )

    def pid_running(self, message_id: str) -> int:
        """The worker that runs this message, as soon as one does."""

        def pid() -> int:
            workers = self.pool()["workers"]
            return next((worker["pid"] for worker in workers if worker["message_id"] == message_id), 0)

        return eventually(pid, f"{message_id} runs")

    # ---- what the broker reports -------------------------------------------------------------------------------------

    def wires(self) -> list[Wire]:
        """The connections of this pool, in the order of their names."""
        return [wire for wire in wires(self.node) if wire.client.startswith("preforkd ") and "email" in wire.client]

    def channels(self) -> set[str]:
        """The channels of this pool, by their processes in the broker: `connection process`, never the same twice."""
        mine = {wire.name for wire in self.wires()}
        listed = _listed(
            self.node,
            '[[proplists:get_value(name, I), "|", pid_to_list(proplists:get_value(pid, I)), ";"]'
            " || I <- rabbit_channel:info_all([name, pid])]",
        )
        return {line for line in listed if line.rpartition(" (")[0] in mine}

    def lines(self) -> tuple[list[Wire], set[str]]:
        """Connections and channels, once all are open: declaring, consuming, asking; publishing."""
        eventually(lambda: len(self.channels()) == 4, "all channels are open")
        return self.wires(), self.channels()

    def settled(self) -> bool:
        """Whether nothing is left in the queue: nothing ready, nothing unacknowledged."""
        return self.unacked() == 0 and self.node.depth(self.queue) == 0

    def unacked(self) -> int:
        """Messages that the broker holds as delivered to this pool and not settled yet."""
        mine = {wire.name for wire in self.wires()}
        listed = _listed(
            self.node,
            '[[proplists:get_value(name, I), "|",'
            ' integer_to_list(proplists:get_value(messages_unacknowledged, I)), ";"]'
            " || I <- rabbit_channel:info_all([name, messages_unacknowledged])]",
        )
        pairs = [line.rpartition("|") for line in listed]
        return sum(int(count) for name, _, count in pairs if name.rpartition(" (")[0] in mine)

    def dead(self) -> list[tuple[pika.BasicProperties, bytes]]:
        """What lies in the dead-letter queue, looked at without taking it."""
        with self.node.channel() as channel:
            found = []
            while (got := channel.basic_get(f"{self.queue}.dead"))[0] is not None:
                found.append((got[1], got[2]))
            return found

    def forget_queues(self) -> None:
        """Delete every queue of this pool."""
        names = _listed(self.node, '[[element(4, N), ";"] || N <- rabbit_amqqueue:list_names()]')
        with self.node.channel() as channel:
            for name in names:
                if name == self.queue or name.startswith(f"{self.queue}."):
                    channel.queue_delete(name)


def url(port: int) -> str:
    """The default user and virtual host behind this port."""
    return f"amqp://guest:guest@127.0.0.1:{port}/%2F"


def wires(node: RabbitNode) -> list[Wire]:
    """Every connection of a node that has said who it is, in the order of their names."""
    listed = _listed(
        node,
        '[[proplists:get_value(name, I), "|",'
        ' case lists:keyfind(<<"connection_name">>, 1, proplists:get_value(client_properties, I)) of'
        ' false -> ""; Found -> element(3, Found) end, "|",'
        ' integer_to_list(proplists:get_value(channels, I)), "|",'
        ' integer_to_list(proplists:get_value(timeout, I)), ";"]'
        " || I <- rabbit_networking:connection_info_all([name, client_properties, channels, timeout]),"
        " is_list(proplists:get_value(client_properties, I))]",
    )
    fields = [line.split("|") for line in listed]
    return sorted(Wire(name, client, int(channels), int(heartbeat)) for name, client, channels, heartbeat in fields)


def churn(node: RabbitNode) -> Churn:
    """The node's own counters."""
    counters = "tl(tuple_to_list(hd(ets:tab2list(connection_churn_metrics))))"
    return Churn(*map(int, _listed(node, f'[[integer_to_list(N), ";"] || N <- {counters}]')[:4]))


def _listed(node: RabbitNode, expression: str) -> list[str]:
    """The lines of an iolist with a ; behind each line. By way of a file: erl_call would wrap and cut long answers."""
    answer = node.folder / "answer"
    node.call(f'file:write_file("{answer}", {expression})')
    return [line for line in answer.read_text().split(";") if line]


@contextmanager
def rabbit_daemon(
    directory: Path, node: RabbitNode, pool: str = "workers = 1", start: bool = True, **options: Any
) -> Iterator[RabbitDaemon]:
    """A daemon for a test on this node; when it is over, its processes and its queues are gone."""
    under_test = RabbitDaemon(directory, node, pool, **options)
    try:
        with cleaned_up(under_test, start):
            yield under_test
    finally:
        under_test.forget_queues()


@contextmanager
def bystander(node: RabbitNode, heartbeat_s: int = HEARTBEAT_S) -> Iterator[Callable[[], bool]]:
    """A client that does nothing at all; whether the broker has given it up for missed heartbeats.

    What waits for that has waited long enough to see a consumer die of its handler.
    """
    parameters = pika.URLParameters(node.url)
    parameters.heartbeat = heartbeat_s
    name = f"bystander {uuid4().hex[:8]}"
    parameters.client_properties = {"connection_name": name}
    connection = pika.BlockingConnection(parameters)
    try:
        yield lambda: name not in [wire.client for wire in wires(node)]
    finally:
        with suppress(pika.exceptions.AMQPError):
            connection.close()
