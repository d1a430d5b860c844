"""The answers of the control socket as types: published names, and daemons of other versions."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from supervisor.control.protocol import answer_line, read_answer, typed
from supervisor.control.results import ConsumerStatus, SidecarStatus, Status
from supervisor.errors import ControlError
from supervisor.link.consumer_state import ConnectionStatus, Measurements, QueueStatus
from tests.support.documented import documented_status


def test_the_documented_status_object_comes_back_as_it_was() -> None:
    documented = documented_status()

    assert list(read_answer(answer_line(typed(documented, Status))).items()) == list(documented.items())


def test_fields_of_a_newer_daemon_are_ignored() -> None:
    newer = documented_status() | {"brand_new": 1}
    newer["pools"]["email"] |= {"brand_new": []}
    newer["pools"]["email"]["consumer"] |= {"state": "dancing", "brand_new": {}}

    read = typed(newer, Status)

    assert read.pools["email"].consumer.state == "dancing"
    assert read.pools["email"].queue == "email"


@pytest.mark.parametrize(("damage", "named"), [({"pools": None}, "$.pools"), ({"pid": "1"}, "$.pid")])
def test_an_answer_that_cannot_be_read_says_what_to_do(damage: dict[str, Any], named: str) -> None:
    with pytest.raises(ControlError) as caught:
        typed(documented_status() | damage, Status)

    assert "another version" in str(caught.value)
    assert named in str(caught.value)
    assert "preforkd restart" in str(caught.value)


def test_what_is_not_known_is_absent() -> None:
    web = SidecarStatus(kind="web", pid=None, state="held", restarts=3, why="")

    assert read_answer(answer_line(web)).keys() == {"kind", "pid", "state", "restarts", "why"}
    assert read_answer(answer_line({"depth": QueueStatus(), "measures": Measurements()})) == {
        "depth": {"ready": 0, "consumers": 0},
        "measures": {},
    }


def test_the_consumer_s_connection_is_there_before_it_has_said_anything() -> None:
    used = {"restarts": 0, "why": "", "rss_bytes": 0, "cpu_s": 0.0}
    consumer = ConsumerStatus(
        pid=None, state="starting", **used, connection=ConnectionStatus(), in_flight=0, notes=[], at=""
    )

    shown = msgspec.to_builtins(consumer)["connection"]

    assert shown == {"state": "connecting", "host": "", "since_s": 0.0, "opened": 0, "why": ""}
