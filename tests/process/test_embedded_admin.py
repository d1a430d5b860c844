"""Facts about the command line's way into the embedded queue: publishing, leases, moves, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.brokers.base import Delivery
from supervisor.brokers.embedded.admin import EmbeddedAdmin
from supervisor.config.schema import BrokerConfig
from supervisor.errors import BrokerRefused, BrokerUnavailable
from supervisor.messages.message import Properties, Publication
from tests.support.brokers import Backend, a_pool
from tests.support.children import snippet

HOLDER = """
import signal, sys
from supervisor.brokers.embedded.admin import EmbeddedAdmin

admin = EmbeddedAdmin(sys.argv[1])
print(*[delivery.body.decode() for delivery in admin.take("q", int(sys.argv[2]))], flush=True)
signal.pause()
"""


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[EmbeddedAdmin]:
    with EmbeddedAdmin(str(tmp_path)) as admin:
        admin.ensure_queue("q")
        yield admin  # type: ignore[misc]


def to(queue: str, body: bytes = b"x") -> Publication:
    return Publication("", queue, Properties(message_id=body.decode()), body)


def put(admin: EmbeddedAdmin, *bodies: bytes) -> None:
    assert admin.publish([to("q", body) for body in bodies], 10, lambda total: None).failed == []


def bodies(deliveries: list[Delivery]) -> list[bytes]:
    return [delivery.body for delivery in deliveries]


def ready(admin: EmbeddedAdmin, queue: str = "q") -> int:
    depth = admin.depth(queue)
    assert depth is not None
    return depth.ready


# ---- publishing ---------------------------------------------------------------------------------------------------


def test_publishing_tells_how_many_are_safe_window_by_window(admin: EmbeddedAdmin) -> None:
    totals: list[int] = []
    report = admin.publish((to("q", b"%d" % n) for n in range(25)), 10, totals.append)
    assert (report.sent, report.failed, totals) == (25, [], [10, 20, 25])
    assert bodies(admin.take("q", 100)) == [b"%d" % n for n in range(25)]


def test_a_refused_message_fails_alone_and_is_named_by_its_index(admin: EmbeddedAdmin) -> None:
    messages = [to("q"), to("nowhere"), to("q"), Publication("mail", "q", Properties(), b"")]
    report = admin.publish(messages, 2, lambda total: None)
    assert report.sent == 2
    assert [index for index, _ in report.failed] == [1, 3]
    assert report.absent == {1, 3}
    assert "nowhere" in report.failed[0][1]
    assert "mail" in report.failed[1][1]


def test_nothing_to_publish_is_fine(admin: EmbeddedAdmin) -> None:
    report = admin.publish([], 10, lambda total: None)
    assert (report.sent, report.failed) == (0, [])


# ---- leases -------------------------------------------------------------------------------------------------------


def test_two_admins_are_never_given_the_same_message(tmp_path: Path, admin: EmbeddedAdmin) -> None:
    put(admin, b"1", b"2", b"3")
    with EmbeddedAdmin(str(tmp_path)) as other:
        assert bodies(admin.take("q", 2)) == [b"1", b"2"]
        assert bodies(other.take("q", 2)) == [b"3"]
        assert other.take("q", 2) == []


def test_messages_taken_twice_in_a_row_are_different_ones(admin: EmbeddedAdmin) -> None:
    put(admin, b"1", b"2")
    assert bodies(admin.take("q", 1)) + bodies(admin.take("q", 1)) == [b"1", b"2"]


def test_what_was_not_settled_returns_in_order(admin: EmbeddedAdmin) -> None:
    put(admin, b"1", b"2", b"3")
    first, second, third = admin.take("q", 3)
    admin.drop(second)
    admin.requeue_all()
    assert bodies(admin.take("q", 3)) == [first.body, third.body]


def test_closing_returns_what_was_taken(tmp_path: Path, admin: EmbeddedAdmin) -> None:
    put(admin, b"1")
    with EmbeddedAdmin(str(tmp_path)) as other:
        assert len(other.take("q", 1)) == 1
    assert bodies(admin.take("q", 1)) == [b"1"]


def test_a_lease_dies_with_its_process(tmp_path: Path, admin: EmbeddedAdmin) -> None:
    put(admin, b"1", b"2")
    with snippet(HOLDER, str(tmp_path), "1") as holder:
        assert holder.line() == "1"
        assert bodies(admin.take("q", 10)) == [b"2"]
        holder.kill()
    assert bodies(admin.take("q", 10)) == [b"1"]


def test_a_lease_that_is_given_back_cannot_be_settled_any_more(admin: EmbeddedAdmin) -> None:
    put(admin, b"1")
    (delivery,) = admin.take("q", 1)
    admin.requeue_all()
    admin.drop(delivery)
    with pytest.raises(BrokerUnavailable, match="no more"):
        admin.move(delivery, to("q"))
    assert ready(admin) == 1


def test_a_consumer_leaves_leased_messages_alone_and_gets_those_of_the_dead(tmp_path: Path) -> None:
    backend = Backend(BrokerConfig(), tmp_path)
    with backend.admin() as admin:
        admin.ensure_queue("q")
    backend.put("q", b"1", b"2")
    with backend.driver(a_pool(queue="q")) as driver, snippet(HOLDER, str(tmp_path), "1") as holder:
        assert holder.line() == "1"
        driver.start()
        assert driver.next(Delivery).body == b"2"
        assert len(driver.of(Delivery)) == 1
        holder.kill()
        assert driver.next(Delivery).body == b"1"


def test_taking_from_a_queue_with_a_consumer_is_refused(tmp_path: Path) -> None:
    backend = Backend(BrokerConfig(), tmp_path)
    with backend.driver(a_pool()) as driver:
        driver.start()
        queue = driver.pool.queue
        with backend.admin() as admin:
            with pytest.raises(BrokerRefused, match="stop the daemon"):
                admin.take(queue, 1)
            assert admin.take(f"{queue}.dead", 1) == []


# ---- moves --------------------------------------------------------------------------------------------------------


def test_a_move_is_both_or_nothing(admin: EmbeddedAdmin) -> None:
    admin.ensure_queue("q.dead")
    put(admin, b"1")
    (delivery,) = admin.take("q", 1)
    with pytest.raises(BrokerUnavailable, match="nowhere"):
        admin.move(delivery, to("nowhere"))
    admin.move(delivery, to("q.dead", b"moved"))
    assert (ready(admin), bodies(admin.take("q.dead", 5))) == (0, [b"moved"])


# ---- queues -------------------------------------------------------------------------------------------------------


def test_an_unknown_queue_has_no_depth(admin: EmbeddedAdmin) -> None:
    assert admin.depth("nowhere") is None
    assert admin.take("nowhere", 1) == []


def test_ensuring_a_queue_twice_keeps_what_is_in_it(admin: EmbeddedAdmin) -> None:
    put(admin, b"1")
    admin.ensure_queue("q")
    assert ready(admin) == 1


def test_a_deleted_queue_is_gone_with_its_messages(admin: EmbeddedAdmin) -> None:
    put(admin, b"1")
    admin.delete_queue("q")
    admin.delete_queue("q")
    assert admin.depth("q") is None
    admin.ensure_queue("q")
    assert ready(admin) == 0


def test_depth_counts_a_consumer(tmp_path: Path) -> None:
    backend = Backend(BrokerConfig(), tmp_path)
    with backend.driver(a_pool()) as driver, backend.admin() as admin:
        driver.start()
        depth = admin.depth(driver.pool.queue)
        assert depth is not None
        assert depth.consumers == 1


def test_facts_name_the_server(admin: EmbeddedAdmin) -> None:
    assert admin.facts("q").server.startswith("embedded queue (SQLite ")


# ---- refusals -----------------------------------------------------------------------------------------------------


def test_without_a_state_directory_it_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(BrokerUnavailable, match="preforkd start"):
        EmbeddedAdmin(str(tmp_path / "none"))
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "embedded.db").write_bytes(b"no database" * 1000)
    with pytest.raises(BrokerRefused, match="move it away"):
        EmbeddedAdmin(str(tmp_path))
