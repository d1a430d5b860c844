"""The command that gives a user the rights of its pools: what it allows, and what it does not."""

from __future__ import annotations

import re
import shlex

import pika
import pytest

from supervisor.brokers.amqp.errors import ACCESS_REFUSED, Trouble, permissions_command, with_command
from supervisor.brokers.amqp.queues import pool_queues
from supervisor.config.schema import Binding, PoolConfig
from tests.support.brokers import a_pool


def account(user: str, vhost: str) -> pika.ConnectionParameters:
    return pika.ConnectionParameters(virtual_host=vhost, credentials=pika.PlainCredentials(user, "secret"))


ANN = account("ann", "/")


def patterns(*pools: PoolConfig, given_to: pika.ConnectionParameters = ANN) -> tuple[str, str, str]:
    """What may be configured, written and read, as the shell hands it to rabbitmqctl."""
    words = shlex.split(permissions_command(given_to, pools))
    vhost, user = given_to.virtual_host, given_to.credentials.username
    assert words[:5] == ["rabbitmqctl", "set_permissions", "-p", vhost, user]
    configure, write, read = words[5:]
    return configure, write, read


def test_every_queue_of_a_pool_may_be_declared_filled_and_read() -> None:
    pool = a_pool(queue="email", retry_delays_s=(1.0, 60.0))

    for pattern in patterns(pool):
        assert [plan.name for plan in pool_queues(pool) if not re.search(pattern, plan.name)] == []


@pytest.mark.parametrize("other", ["emails", "my.email", "email-dead", "sms", "email\nx"])
def test_no_queue_of_others_is_allowed(other: str) -> None:
    assert not any(re.search(pattern, other) for pattern in patterns(a_pool(queue="email")))


def test_a_dot_in_a_queues_name_stands_for_itself() -> None:
    configure, _, _ = patterns(a_pool(queue="a.b"))

    assert re.search(configure, "a.b.dead")
    assert not re.search(configure, "axb")


def test_copies_are_published_to_the_default_exchange_only() -> None:
    configure, write, read = patterns(a_pool(queue="email"))

    assert re.search(write, "amq.default")
    assert not re.search(configure, "amq.default")
    assert not re.search(read, "amq.default")


@pytest.mark.parametrize(("declares", "allowed"), [(True, True), (False, False)])
def test_an_exchange_may_be_read_where_the_queue_is_bound_to_it_at_the_start(declares: bool, allowed: bool) -> None:
    pool = a_pool(queue="email", declare=declares, bindings=(Binding("orders+more", "new"),))
    configure, write, read = patterns(pool)

    assert bool(re.search(read, "orders+more")) is allowed
    assert not re.search(write, "orders+more")
    assert not re.search(configure, "orders+more")


def test_one_command_is_for_all_pools_and_names_each_queue_once() -> None:
    configure, _, _ = patterns(a_pool(queue="sms"), a_pool(queue="email"), a_pool(queue="sms"))

    assert configure == r"^(email(\..*)?|sms(\..*)?)$"


def test_no_name_becomes_a_command_of_the_shell() -> None:
    odd = account("ann; reboot", "/ $(reboot)")

    assert len(patterns(a_pool(queue="'; reboot #"), given_to=odd)) == 3


def test_a_missing_right_is_told_with_the_command_that_gives_it() -> None:
    pool = a_pool(queue="email")
    told = with_command(Trouble("access to queue 'email' refused", True, ACCESS_REFUSED), ANN, pool)

    assert told.reason.startswith("access to queue 'email' refused; give it with: rabbitmqctl set_permissions")
    assert permissions_command(ANN, [pool]) in told.reason
    assert (told.fatal, told.code) == (True, ACCESS_REFUSED)


@pytest.mark.parametrize("trouble", [Trouble("no queue", True, 404), Trouble("refused for now", False, ACCESS_REFUSED)])
def test_any_other_trouble_is_told_as_it_is(trouble: Trouble) -> None:
    assert with_command(trouble, ANN, a_pool()) == trouble
