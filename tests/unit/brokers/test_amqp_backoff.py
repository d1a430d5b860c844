"""Delays before attempts to reach a broker, and the hosts that are tried: one per attempt, without their secrets."""

from __future__ import annotations

import pytest

from supervisor.brokers.amqp.connection import Backoff, targets
from supervisor.config.schema import BrokerConfig
from supervisor.errors import BrokerRefused


def test_the_first_retry_is_quick_the_next_ones_double_up_to_a_cap() -> None:
    backoff = Backoff()
    delays_s = [backoff.next_s() for _ in range(9)]

    for delay_s, most_s in zip(delays_s, [0.1, 1, 2, 4, 8, 16, 30, 30, 30], strict=True):
        assert 0.75 * most_s <= delay_s <= most_s


def test_delays_are_jittered() -> None:
    def third_s() -> float:
        backoff = Backoff()
        return [backoff.next_s() for _ in range(3)][2]

    assert len({third_s() for _ in range(10)}) > 1


def test_a_connection_that_held_makes_the_next_retry_quick_again() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.next_s()

    backoff.up(now_s=100.0)
    backoff.down(now_s=100.5)
    assert backoff.next_s() > 10
    backoff.up(now_s=200.0)
    backoff.down(now_s=260.0)
    assert backoff.next_s() <= 0.1


def test_attempts_that_fail_after_one_that_held_take_ever_longer() -> None:
    backoff = Backoff()
    backoff.up(now_s=100.0)
    for _ in range(5):
        backoff.down(now_s=200.0)
        delay_s = backoff.next_s()

    assert delay_s > 5


@pytest.mark.parametrize(("lasted_s", "served_s", "quick"), [(4.0, 3.5, True), (4.0, 0.5, False), (4.0, 0.0, False)])
def test_a_connection_that_did_its_work_for_a_second_was_no_failure(
    lasted_s: float, served_s: float, quick: bool
) -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.next_s()

    backoff.up(now_s=100.0)
    if served_s:
        backoff.serves(now_s=100.0 + lasted_s - served_s)
    backoff.down(now_s=100.0 + lasted_s)
    assert (backoff.next_s() <= 0.1) is quick


def test_hosts_keep_their_order_and_hide_their_secrets() -> None:
    config = BrokerConfig(urls=("amqp://u:s3cret@one:5673/v", "amqps://u:s3cret@two"), heartbeat_s=7)
    first, second = targets(config, "preforkd consumer p", 14.0)

    assert (first.host, second.host) == ("amqp://one:5673/v", "amqps://two:5671")
    assert (first.parameters.heartbeat, second.parameters.ssl_options is not None) == (7, True)


def test_an_ipv6_address_is_shown_as_it_is_written() -> None:
    (target,) = targets(BrokerConfig(urls=("amqp://u:s3cret@[::1]:5673/v",)), "n", 1.0)

    assert (target.host, target.parameters.host) == ("amqp://[::1]:5673/v", "::1")


def test_a_connection_is_named_and_guarded_by_the_kernel() -> None:
    (target,) = targets(BrokerConfig(urls=("amqp://localhost/",)), "preforkd consumer p", 14.0)

    assert target.parameters.client_properties["connection_name"] == "preforkd consumer p"
    assert target.parameters.tcp_options["TCP_USER_TIMEOUT"] == 14_000
    assert target.parameters.tcp_options["TCP_KEEPIDLE"] > 0


@pytest.mark.parametrize("url", ["http://u:s3cret@host", "nonsense", "amqp://u:s3cret@host:port/", "amqp://[::1"])
def test_a_url_that_cannot_be_used_is_refused_without_its_secret(url: str) -> None:
    with pytest.raises(BrokerRefused, match=r"\[broker\] url") as refused:
        targets(BrokerConfig(urls=(url,)), "n", 1.0)
    assert "s3cret" not in str(refused.value)
