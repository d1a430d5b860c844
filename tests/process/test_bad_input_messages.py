"""Whatever a message is made of, it is handed over as it is, or set aside with its reason; no other message suffers."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from supervisor.brokers import open_admin
from supervisor.config.schema import BrokerConfig
from supervisor.messages.message import Properties, Publication
from tests.support.site import Site, make_site
from tests.support.waiting import eventually

_HANDLER = """
import json, os, signal
from hashlib import sha256
from pathlib import Path

def run(message):
    facts = [message.id, message.attempt, len(message.body), sha256(message.body).hexdigest()]
    with (Path(__file__).parent / "runs.jsonl").open("a") as runs:
        runs.write(json.dumps(facts) + "\\n")
    if message.properties.type == "json":
        message.json()
    if message.properties.type == "crash once" and message.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if message.properties.type == "fail once" and message.attempt == 1:
        raise ValueError(message.id)
"""

ESCAPES = "two\nlines\t\x1b[31mred\x1b]0;title\x07 \u202eback \U000e0001 \ud83d".encode("utf-8", "replace").decode()
BODIES = {
    "empty": b"",
    "no UTF-8": b"\xc3(\xff",
    "zeros": b"\0" * 5000,
    "terminal": b"\x1b[2J\x1b]0;owned\x07",
    "16 MiB": bytes(range(256)) * (16 << 12),
}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with make_site(tmp_path) as site:
        (tmp_path / "site_handler.py").write_text(_HANDLER)
        site.config.write_text(
            site.config.read_text().replace("max_attempts = 1", 'max_attempts = 2\nretry_delays = ["50ms"]')
        )
        yield site


def send(site: Site, *messages: tuple[Properties, bytes]) -> None:
    """Publish messages as any client could."""
    with open_admin(BrokerConfig(), str(site.folder / "state")) as admin:
        publications = [Publication("", "mail", properties, body) for properties, body in messages]
        report = admin.publish(publications, 10, lambda total: None)
    assert report.failed == []


def runs(site: Site) -> list[list[object]]:
    """What the handler was given: id, attempt, length and sha256 of the body."""
    notes = site.folder / "runs.jsonl"
    return [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []


def harmless(text: str) -> bool:
    """Whether a terminal obeys nothing in it: no control or format character but line ends."""
    return not any(unicodedata.category(char) in ("Cc", "Cf", "Cs") for char in text.replace("\n", ""))


# ---- bodies ---------------------------------------------------------------------------------------------------------


def test_every_body_reaches_the_handler_as_it_is(site: Site) -> None:
    site.ok("start")

    send(site, *((Properties(message_id=name), body) for name, body in BODIES.items()))

    site.wait_for_counter("done", len(BODIES))
    expected = [[name, 1, len(body), sha256(body).hexdigest()] for name, body in BODIES.items()]
    assert runs(site) == expected


def test_a_body_that_a_handler_cannot_read_is_set_aside_with_its_stack_and_can_be_looked_at(site: Site) -> None:
    site.ok("start")
    bad = [name for name in BODIES if name != "zeros"]

    send(site, *((Properties(message_id=name, type="json"), BODIES[name]) for name in bad))
    send(site, (Properties(message_id="good", type="json"), b"{}"))

    site.wait_for_counter("dead", len(bad))
    assert site.counters()["done"] == 1
    found = {entry["id"]: entry for entry in map(json.loads, site.ok("dead", "list", "mail", "--json").splitlines())}
    assert set(found) == set(bad)
    assert found["empty"]["properties"]["headers"]["x-preforkd-reason"].startswith("json.decoder.JSONDecodeError: ")
    assert found["no UTF-8"]["properties"]["headers"]["x-preforkd-reason"].startswith("UnicodeDecodeError: ")
    for name in bad:
        shown = site.ok("dead", "show", "mail", name)
        assert f"body: {len(BODIES[name])} byte(s)" in shown
        assert harmless(shown.replace("\t", ""))
    assert len(site.ok("dead", "show", "mail", "16 MiB")) < 200_000, "the beginning is enough to look at"


# ---- ids ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", ["x" * 255, ESCAPES], ids=["255 bytes", "escapes"])
def test_an_id_is_taken_as_it_is_and_never_obeyed(site: Site, id: str) -> None:
    site.ok("start")

    send(site, (Properties(message_id=id, type="crash once"), b""))
    site.wait_for_counter("done", 1)
    send(site, (Properties(message_id=id, type="crash once"), b""), (Properties(message_id=id, type="json"), b""))
    site.wait_for_counter("dead", 1)

    assert [run[:2] for run in runs(site)] == [[id, 1], [id, 2], [id, 1], [id, 2]]
    assert site.counters()["duplicate"] == 1
    (killed,) = [record for record in site.exits() if record["cause"] == "killed"]
    assert (killed["message_id"], killed["run"]) == (id, "in_doubt")
    for command in (("exits",), ("status",), ("dead", "list", "mail"), ("dead", "show", "mail", id)):
        assert harmless(site.ok(*command).replace("\t", "")), command
    assert harmless(site.log_path.read_text().replace("\t", ""))
    assert site.ok("dead", "retry", "mail", id).startswith("1 message(s)")
    site.wait_for_counter("dead", 2)


def test_an_id_of_1_kib_in_a_header_names_its_message_through_crash_failure_and_duplicate(site: Site) -> None:
    site.config.write_text(site.config.read_text() + 'id_header = "job"\n')
    site.ok("start")
    first, second = "j" * 1023 + "1", "j" * 1023 + "2"

    for kind, name in (("crash once", first), ("fail once", second)):
        send(site, (Properties(headers={"job": name}, type=kind), b""))
    site.wait_for_counter("done", 2)
    send(
        site,
        *((Properties(headers={"job": n}, type=k), b"") for k, n in (("crash once", first), ("fail once", second))),
    )
    site.wait_for_counter("duplicate", 2)

    assert sorted(run[:2] for run in runs(site)) == [[first, 1], [first, 2], [second, 1], [second, 2]]


@pytest.mark.parametrize("nothing", ["", b"", None], ids=["empty", "no bytes", "void"])
def test_a_header_with_nothing_in_it_is_no_id(site: Site, nothing: object) -> None:
    site.config.write_text(site.config.read_text() + 'id_header = "job"\n')
    site.ok("start")

    send(site, *((Properties(headers={"job": nothing}, message_id=name), b"") for name in ("a", "b")))
    send(site, *[(Properties(headers={"job": nothing}), b"")] * 2)

    site.wait_for_counter("done", 4)
    named = [run[0] for run in runs(site)]
    assert named[:2] == ["a", "b"]
    assert len(set(named)) == 4


def test_messages_that_cannot_be_read_stop_no_process(site: Site) -> None:
    site.ok("start")

    send(site, *((Properties(message_id=f"bad{n}", type="json"), b"\xff") for n in range(20)))
    send(site, (Properties(message_id="good"), b""))

    site.wait_for_counter("dead", 20)
    eventually(lambda: ["good", 1] in [run[:2] for run in runs(site)], "the good one is done")
    assert site.status()["pools"]["mail"]["state"] == "ok"
    assert site.exits() == [], "an exception is no reason to end a worker"
