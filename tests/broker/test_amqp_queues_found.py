"""What is found of a pool's queues at the start, and what is said of it: others' queues, bindings, missing rights.

On RabbitMQ 3.10, and with PREFORKD_SOAK on 4.0 as well.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from supervisor.brokers import open_admin
from supervisor.brokers.admin import PoolReview
from supervisor.brokers.base import Connected, Declared, Delivery, Fatal, Subscribed, Unsafe
from supervisor.config.schema import Binding, BrokerConfig, PoolConfig
from tests.support.brokers import Backend, a_pool
from tests.support.rabbitmq import RabbitNode

pytestmark = pytest.mark.rabbitmq


@pytest.fixture
def at(node: RabbitNode, tmp_path: Path) -> Backend:
    return Backend(BrokerConfig(urls=(node.url,)), tmp_path)


def declare(node: RabbitNode, queue: str, durable: bool = True, auto_delete: bool = False, **arguments: Any) -> None:
    """As an application does."""
    named = {name.replace("_", "-"): value for name, value in arguments.items()}
    with node.channel() as channel:
        channel.queue_declare(queue, durable=durable, auto_delete=auto_delete, arguments=named)


def told(at: Backend, pool: PoolConfig) -> tuple[str, ...]:
    """The remarks with which a pool starts."""
    with at.driver(pool) as driver:
        driver.start()
        return tuple(remark for event in driver.of(Unsafe) for remark in event.remarks)


def review(at: Backend, pool: PoolConfig, url: str = "") -> PoolReview:
    """What `check` finds."""
    with open_admin(BrokerConfig(urls=(url,)) if url else at.config, str(at.state_dir)) as admin:
        return admin.review(pool, [pool])


# ---- others' queues -----------------------------------------------------------------------------------------------

KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "not durable": ({"durable": False}, "not durable"),
    "auto-delete": ({"auto_delete": True}, "auto-delete"),
    "expiring": ({"x_expires": 90_000}, "x-expires"),
    "with a TTL and a DLX": ({"x_message_ttl": 60_000, "x_dead_letter_exchange": "dlx"}, "moves to exchange 'dlx'"),
    "with a length": ({"x_queue_type": "quorum", "x_max_length": 3}, "beyond 3 messages"),
}


@pytest.mark.parametrize("case", KINDS)
def test_a_queue_that_breaks_a_promise_is_told_at_start_and_by_check(at: Backend, node: RabbitNode, case: str) -> None:
    arguments, text = KINDS[case]
    pool = a_pool()
    declare(node, pool.queue, **arguments)

    found = review(at, pool)
    remarks = told(at, pool)

    assert [remark for remark in remarks if pool.queue in remark and text in remark], remarks
    assert [remark for remark in found.remarks if text in remark], found
    assert found.errors == []
    at.clean_up(pool)


def test_check_and_start_change_nothing_about_a_queue_that_they_ask_about(at: Backend, node: RabbitNode) -> None:
    pool = a_pool(declare=False)
    declare(node, pool.queue, x_max_length=5)
    at.put(pool.queue, b"1", b"2")

    review(at, pool)
    with at.driver(pool) as driver:
        driver.start()
        first, second = driver.many(Delivery, 2)
        assert (first.redelivered, second.redelivered) == (False, False)
    with node.channel() as channel:
        assert channel.queue_declare(pool.queue, durable=True, arguments={"x-max-length": 5}).method.message_count == 2
    at.clean_up(pool)


def test_check_makes_no_queue(at: Backend, node: RabbitNode) -> None:
    pool = a_pool(bindings=(Binding("amq.topic", "#"),))

    assert review(at, pool) == PoolReview([], [])
    with at.admin() as admin:
        assert [admin.depth(f"{pool.queue}{end}") for end in ("", ".dead", ".parked", ".retry.250")] == [None] * 4


def test_queues_as_we_make_them_and_as_most_code_declares_them_cause_no_remark(at: Backend, node: RabbitNode) -> None:
    ours, plain = a_pool(), a_pool()
    declare(node, plain.queue)

    for pool in (ours, ours, plain):
        assert told(at, pool) == ()
        assert review(at, pool) == PoolReview([], [])
    at.clean_up(ours)
    at.clean_up(plain)


def test_a_delay_queue_that_gives_nothing_back_is_told(at: Backend, node: RabbitNode) -> None:
    pool = a_pool()
    declare(node, f"{pool.queue}.retry.250", x_message_ttl=250)

    (remark,) = told(at, pool)
    assert "does not give retries back" in remark
    assert review(at, pool).remarks == [remark]
    at.clean_up(pool)


def test_a_dead_letter_queue_that_forgets_is_told(at: Backend, node: RabbitNode) -> None:
    pool = a_pool()
    declare(node, f"{pool.queue}.dead", x_message_ttl=3_600_000)

    (remark,) = told(at, pool)
    assert f"{pool.queue}.dead" in remark
    at.clean_up(pool)


def test_arguments_of_our_own_that_break_a_promise_are_told_before_and_after_the_queue_is_made(at: Backend) -> None:
    pool = a_pool(queue_arguments={"x-queue-type": "quorum", "x-max-length": 9})

    assert "beyond 9 messages" in review(at, pool).remarks[0]
    for _made_then_found in range(2):
        (remark,) = told(at, pool)
        assert "beyond 9 messages" in remark
    assert "beyond 9 messages" in review(at, pool).remarks[0]
    at.clean_up(pool)


def test_a_stream_is_an_error_of_check(at: Backend, node: RabbitNode) -> None:
    pool = a_pool()
    declare(node, pool.queue, x_queue_type="stream")

    (error,) = review(at, pool).errors
    assert "stream" in error
    at.clean_up(pool)


def test_a_queue_that_was_made_is_told_once_with_what_publishers_must_know(at: Backend, node: RabbitNode) -> None:
    pool = a_pool()
    with at.driver(pool) as driver:
        driver.start()
        (event,) = driver.of(Declared)
        assert pool.queue in event.text
        assert "'quorum'" in event.text
        assert "406" in event.text
        driver.broker.cut()
        driver.next(Subscribed)
        assert len(driver.of(Declared)) == 1
    at.clean_up(pool)


@pytest.mark.parametrize(
    "queue",
    ["mail/über %2F #?", "a b\tc", "x" * 200, 'q\'uote "double"', "amq.not-ours"],
    ids=["unicode, slash, percent", "blanks", "long", "quotes", "reserved"],
)
def test_queues_of_any_name_work_or_are_refused_by_name(at: Backend, node: RabbitNode, queue: str) -> None:
    pool = a_pool(queue=queue)
    with at.driver(pool) as driver:
        driver.broker.start()
        if queue.startswith("amq."):
            assert queue in driver.next(Fatal).reason
        else:
            driver.next(Subscribed)
            at.put(queue, b"hello")
            delivery = driver.next(Delivery)
            assert delivery.body == b"hello"
            driver.ack(delivery)
            driver.wait_for_depth(0)
    at.clean_up(pool)


# ---- bindings -----------------------------------------------------------------------------------------------------


def test_a_queue_whose_binding_was_refused_is_bound_once_the_right_is_given(at: Backend, node: RabbitNode) -> None:
    pool = a_pool(bindings=(Binding("amq.topic", "mail.#"),))
    node.add_user("binder", "pw", (".*", ".*", "^q-"))
    url = f"amqp://binder:pw@127.0.0.1:{node.port}/%2F"
    config = BrokerConfig(urls=(url,))
    with at.driver(pool, config) as driver:
        driver.broker.start()
        reason = driver.next(Fatal).reason
        assert "cannot be bound" in reason
        assert "amq.topic" in reason
    (error,) = review(at, pool, url).errors
    assert "bind" in error

    node.set_permissions("binder", (".*", ".*", ".*"))
    with at.driver(pool, config) as driver:
        driver.start()
        with node.channel() as channel:
            channel.basic_publish("amq.topic", "mail.new", b"bound")
        assert driver.next(Delivery).body == b"bound"
    at.clean_up(pool)


# ---- rights -------------------------------------------------------------------------------------------------------

_NOTHING = "^$"
RIGHTS: dict[str, tuple[str, str, str]] = {
    "to declare": (_NOTHING, ".*", ".*"),
    "to declare delay queues": (r"^q-[^.]*(\.dead|\.parked)?$", ".*", ".*"),
    "to consume": (".*", ".*", r"\.retry"),
    "to publish copies": (".*", "^q-", ".*"),
}


@pytest.mark.parametrize("case", RIGHTS)
def test_a_missing_right_is_found_by_check_and_at_start_with_the_command_that_gives_it(
    at: Backend, node: RabbitNode, case: str
) -> None:
    pool, user = a_pool(retry_delays_s=(0.25,)), f"u-{uuid4().hex[:6]}"
    node.add_user(user, "pw", RIGHTS[case])
    url = f"amqp://{user}:pw@127.0.0.1:{node.port}/%2F"

    errors = review(at, pool, url).errors
    assert errors
    with at.driver(pool, BrokerConfig(urls=(url,))) as driver:
        driver.broker.start()
        reason = driver.next(Fatal).reason
        assert driver.of(Subscribed) == []
    for text in (*errors, reason):
        assert f"rabbitmqctl set_permissions -p / {user} " in text
        assert "pw@" not in text

    patterns = re.search(r"set_permissions -p / \S+ '(.*?)' '(.*?)' '(.*?)'", errors[0])
    assert patterns is not None
    configure, write, read = patterns.groups()
    node.set_permissions(user, (configure, write, read))
    with at.driver(pool, BrokerConfig(urls=(url,))) as driver:
        driver.start()
        assert review(at, pool, url).errors == []
    at.clean_up(pool)


def test_rights_that_are_not_needed_are_not_asked_for(at: Backend, node: RabbitNode) -> None:
    pool = a_pool(declare=False)
    with at.driver(a_pool(queue=pool.queue)) as driver:
        driver.start()
    user = f"u-{uuid4().hex[:6]}"
    node.add_user(user, "pw", (_NOTHING, "^amq[.]default$", "^q-"))
    url = f"amqp://{user}:pw@127.0.0.1:{node.port}/%2F"

    assert review(at, pool, url).errors == []
    with at.driver(pool, BrokerConfig(urls=(url,))) as driver:
        driver.start()
        assert driver.of(Connected)
    at.clean_up(pool)
