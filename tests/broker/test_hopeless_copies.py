"""A copy that RabbitMQ refuses for what it is: everything else goes on, and the pool says which message, and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.rabbit_daemon import rabbit_daemon
from tests.support.rabbitmq import RabbitNode
from tests.support.waiting import eventually

pytestmark = pytest.mark.rabbitmq

POOL = "workers = 1\nprefetch = 10\nmax_attempts = 1\n"


def limit(node: RabbitNode, size: int) -> None:
    """Bodies may have so many bytes from now on; a channel that is open may still have the former limit."""
    node.call(f"application:set_env(rabbit, max_message_size, {size})")
    node.call(f"persistent_term:put(max_message_size, {size})")


def test_a_copy_beyond_the_message_size_of_the_broker_is_told_by_id_and_size_and_holds_up_no_other(
    own_rabbitmq: RabbitNode, tmp_path: Path
) -> None:
    node = own_rabbitmq
    with rabbit_daemon(tmp_path, node, POOL) as under_test:
        under_test.stop()  # its queues are there
        big = under_test.order("reject", "x" * 5000, message_id="too-big")
        under_test.send_all([big, under_test.order("reject", "small", message_id="small")])
        limit(node, 2000)
        under_test.start()
        under_test.wait_counted(failed=2, dead=1)

        def told() -> str:
            found = [one["text"] for one in under_test.pool()["symptoms"] if one["name"] == "copies.refused"]
            return found[0] if found else ""

        eventually(lambda: "refused for its content" in told(), "it is told as hopeless", 60)
        for words in ("'too-big'", f"({len(big.body)} bytes)", f"{under_test.queue}.dead", "max_message_size"):
            assert words in told()
        under_test.send("nothing", message_id="good")
        under_test.wait_done("good")
        assert {line["message_id"] for line in under_test.events("copy.refused")} == {"too-big"}

        under_test.stop()
        limit(node, 100_000)
        under_test.start()
        under_test.wait_counted(dead=2)
        eventually(under_test.settled, "all are acked")
        bodies = {properties.message_id: body for properties, body in under_test.dead()}
        assert bodies["too-big"] == big.body
