"""Pools with `exclusive = true`: one consumer of the queue at a time, also where the broker would let two in.

RabbitMQ ignores the flag on quorum queues, so these tests count what the broker counts, and read what handlers did.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from supervisor.errors import ControlError
from tests.support.proxy import Proxy, running_proxy
from tests.support.rabbit_daemon import RabbitDaemon, rabbit_daemon
from tests.support.rabbitmq import RabbitNode
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq

CLASSIC = 'queue_arguments = {x-queue-type = "classic"}\n'
POOL = 'exclusive = true\nworkers = 1\nprefetch = 4\ntimeout = "60s"\n'
TAKEOVER_S = 40.0
KINDS = pytest.mark.parametrize("kind", ["", CLASSIC], ids=["quorum", "classic"])


@pytest.fixture
def slow(node: RabbitNode) -> Iterator[Proxy]:
    """A network on which a look at the queue and the subscription after it are a while apart."""
    with running_proxy(node.port) as proxy:
        proxy.delay_s = 0.1
        yield proxy


def daemon_in(
    stack: ExitStack, folder: Path, node: RabbitNode, pool: str, queue: str = "", port: int = 0
) -> RabbitDaemon:
    """A daemon that is not started; it ends with the stack. `queue`: that of another daemon."""
    folder.mkdir()
    made = stack.enter_context(rabbit_daemon(folder, node, pool, start=False, port=port or node.port))
    if queue:
        made.queue = queue
        made.configure(pool)
    return made


def consumes(daemon: RabbitDaemon) -> bool:
    """Whether it is subscribed."""
    return state(daemon)[0] == "consuming"


def waits(daemon: RabbitDaemon) -> bool:
    """Whether it says that another consumer has the queue."""
    return "has a consumer already" in state(daemon)[1]


def state(daemon: RabbitDaemon) -> tuple[str, str]:
    """Of its consumer, and why; nothing before the daemon answers."""
    with suppress(ControlError, KeyError):
        consumer = daemon.pool()["consumer"]
        return consumer["state"], consumer["connection"]["why"]
    return "", ""


def kind_of(pool: str) -> str:
    """The type of the queue that a pool with these lines declares."""
    return "classic" if "classic" in pool else "quorum"


def consumers(node: RabbitNode, queue: str) -> int:
    with node.channel() as channel:
        return int(channel.queue_declare(queue, passive=True).method.consumer_count)


@KINDS
def test_of_two_daemons_that_subscribe_at_the_same_moment_one_consumes(
    node: RabbitNode, tmp_path: Path, slow: Proxy, kind: str
) -> None:
    with ExitStack() as stack:
        first = daemon_in(stack, tmp_path / "a", node, POOL + kind, port=slow.port)
        second = daemon_in(stack, tmp_path / "b", node, POOL + kind, first.queue, slow.port)
        daemons = [first, second]
        with node.channel() as channel:
            channel.queue_declare(first.queue, durable=True, arguments={"x-queue-type": kind_of(kind)})
        first.send_all(first.order("nothing", message_id=f"m-{n}") for n in range(40))
        for daemon in daemons:
            daemon.start(ready=False)

        eventually(lambda: any(map(consumes, daemons)) and any(map(waits, daemons)), "one consumes", TAKEOVER_S)
        eventually(lambda: sum(len(each.marked("done")) for each in daemons) == 40, "all are done")

        assert consumers(node, first.queue) == 1
        assert sorted(len(each.marked("done")) for each in daemons) == [0, 40]


@KINDS
def test_a_paused_daemon_whose_queue_another_one_took_over_waits_when_it_is_resumed(
    node: RabbitNode, tmp_path: Path, kind: str
) -> None:
    with ExitStack() as stack:
        first = daemon_in(stack, tmp_path / "a", node, POOL + kind)
        second = daemon_in(stack, tmp_path / "b", node, POOL + kind, first.queue)
        first.start()
        second.start(ready=False)
        eventually(lambda: waits(second), "the second one waits")
        first.cli_ok("pause", "email")
        eventually(lambda: consumes(second), "the second one took over", TAKEOVER_S)

        first.cli_ok("resume", "email")

        eventually(lambda: waits(first), "the first one waits now")
        first.send_all(first.order("nothing", message_id=f"m-{n}") for n in range(20))
        eventually(lambda: len(second.marked("done")) == 20, "the second one has them all")
        assert first.marked("done") == []
        assert consumers(node, first.queue) == 1


@KINDS
def test_a_run_under_way_keeps_its_message_while_its_resumed_daemon_finds_the_queue_taken(
    node: RabbitNode, tmp_path: Path, kind: str
) -> None:
    """Only a classic queue is taken over meanwhile: a quorum queue counts a consumer that has unsettled messages."""
    with ExitStack() as stack:
        first = daemon_in(stack, tmp_path / "a", node, POOL + kind)
        second = daemon_in(stack, tmp_path / "b", node, POOL + kind, first.queue)
        first.start()
        second.start(ready=False)
        eventually(lambda: waits(second), "the second one waits")
        first.send("until", "go", message_id="long")
        first.pid_running("long")
        first.cli_ok("pause", "email")
        if kind:
            eventually(lambda: consumes(second), "the second one took over", TAKEOVER_S)

        first.cli_ok("resume", "email")
        if kind:
            eventually(first.has("consumer.disconnected"), "the first one has found it taken")
        else:
            eventually(lambda: consumes(first), "the first one goes on")
        first.release("go")
        first.wait_done("long")
        eventually(lambda: node.unacked() == 0 and not node.depth(first.queue), "its message is acked")

        assert [*first.runs("long"), *second.runs("long")] == [1]
        eventually(lambda: waits(first) if kind else consumes(first), "the first one waits, or has kept the queue")
