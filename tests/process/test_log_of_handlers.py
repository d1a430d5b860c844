"""What handlers log and print in a real daemon: each line is there once, and names its run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.site import Site, make_site

_HANDLER = """
import atexit, io, logging, sys, threading
from supervisor import SoftTimeout

log = logging.getLogger("app")
print("imported")

def run(message):
    log.info("of the handler")
    log.info("with its own", extra={"attempt": 77})
    thread = threading.Thread(target=log.warning, args=("of a thread",))
    thread.start()
    thread.join()
    print("printed")
    print("half", end="")
    sys.stdout = io.StringIO()
    raise ValueError("as ordered")

def endless(message):
    number = 0
    try:
        while True:
            print("number", number)
            number += 1
    except SoftTimeout:
        print("until", number)

def connect():
    print("connected")

def shout():
    atexit.register(print, "left")
    sys.stdout = Shouting(sys.stdout)

class Shouting:
    def __init__(self, stream):
        self.stream = stream
    def write(self, text):
        return self.stream.write(text.upper())
    def flush(self):
        self.stream.flush()

def shouts(message):
    print("of run", message.id)
    sys.stdout = None

def talk(begun):
    print("half of a thread", end="")
    begun.set()
    threading.Event().wait()

def exits(message):
    begun = threading.Event()
    threading.Thread(target=talk, args=(begun,), daemon=True).start()
    begun.wait()
    print("half of an exit", end="")
    sys.exit(3)
"""

_OWN = """
import logging.config, sys

logging.config.dictConfig({
    "version": 1,
    "formatters": {"own": {"format": "OWN %(message_id)s/%(round)s/%(attempt)s %(pool)s/%(slot)s %(message)s"}},
    "handlers": {"own": {"class": "logging.StreamHandler", "formatter": "own", "stream": "ext://sys.stdout"}},
    "root": {"handlers": ["own"], "level": "INFO"},
})

def run(message):
    logging.getLogger("app").info("text", extra={} if message.text() == "plain" else {"round": 5})
    print("printed by own")
"""

_POOLS = """
[pools.endless]
queue = "endless"
handler = "site_handler:endless"
path = ["."]
workers = 1
timeout = "20s"
soft_timeout = "500ms"
[pools.exits]
queue = "exits"
handler = "site_handler:exits"
init = "site_handler:connect"
path = ["."]
workers = 1
max_attempts = 1
[pools.shouts]
queue = "shouts"
handler = "site_handler:shouts"
init = "site_handler:shout"
path = ["."]
workers = 1
[pools.own]
queue = "own"
handler = "own_handler:run"
path = ["."]
workers = 1
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A daemon whose log has all that this file is about."""
    with make_site(tmp_path_factory.mktemp("site")) as site:
        (site.folder / "site_handler.py").write_text(_HANDLER)
        (site.folder / "own_handler.py").write_text(_OWN)
        settings = site.config.read_text().replace("max_attempts = 1", 'max_attempts = 2\nretry_delays = ["10ms"]')
        site.config.write_text(settings + _POOLS)
        site.ok("start")
        site.ok("publish", "mail", "--id-prefix", "m", stdin="x\n")
        site.ok("publish", "endless", "--id-prefix", "e", stdin="x\n")
        site.ok("publish", "exits", "--id-prefix", "x", stdin="x\n")
        site.ok("publish", "shouts", "--id-prefix", "s", stdin="x\n")
        site.wait_for_pool_counter("shouts", "done", 1)
        site.ok("publish", "own", "--id-prefix", "o", stdin="plain\nwith its own\n")
        site.wait_for_counter("dead", 1)
        site.wait_for_pool_counter("exits", "dead", 1)
        for pool, done in (("endless", 1), ("own", 2)):
            site.wait_for_pool_counter(pool, "done", done)
        yield site


def lines(site: Site, **facts: Any) -> list[dict[str, Any]]:
    """The lines of the log in which these fields have these values."""
    found = [json.loads(line) for line in site.log_path.read_text().splitlines() if line.startswith("{")]
    return [line for line in found if facts.items() <= line.items()]


def test_one_id_finds_the_lines_of_preforkd_and_those_of_the_handler(site: Site) -> None:
    told = [
        (line.get("logger") or line["event"], "" if line["event"] else line["message"], line["attempt"])
        for line in lines(site, message_id="m0", round=1)
        if line["event"] not in ("message.retried", "message.dead")
    ]

    of_each = [
        ("app", "of the handler"),
        ("app", "with its own"),
        ("app", "of a thread"),
        ("stdout", "printed"),
        ("stdout", "half"),
        ("message.failed", ""),
    ]
    expected = [(*of_one, attempt) for attempt in (1, 2) for of_one in of_each]
    assert sorted(told) == sorted((who, what, 77 if what == "with its own" else at) for who, what, at in expected)
    assert {(line["pool"], line["slot"]) for line in lines(site, logger="stdout", message_id="m0")} == {("mail", 0)}


def test_lines_outside_of_a_run_name_no_message(site: Site) -> None:
    (imported, *_) = lines(site, message="imported", pool="mail")
    connected = lines(site, message="connected")

    assert (imported["process"], imported.get("slot"), "message_id" in imported) == ("forkserver mail", None, False)
    assert {(line["pool"], line["slot"], line.get("attempt")) for line in connected} == {("exits", 0, None)}


def test_a_soft_limit_in_the_middle_of_a_print_loses_and_doubles_no_line(site: Site) -> None:
    """It may strike between two words of a print: the rest of that line is what is printed next."""
    told = "".join(line["message"] for line in lines(site, message_id="e0", logger="stdout"))
    text, _, until = told.rpartition("until ")
    whole = "".join(f"number {at}" for at in range(int(until)))

    assert text.startswith(whole)
    assert f"number {until}".startswith(text.removeprefix(whole))
    assert int(until) > 100


def test_what_is_printed_before_an_exit_is_logged_with_its_run(site: Site) -> None:
    (half,) = lines(site, message="half of an exit")
    exited = lines(site, message_id="x0", process="worker exits/0", level="error")

    (of_thread,) = lines(site, message="half of a thread")
    assert (half["message_id"], half["attempt"]) == (of_thread["message_id"], of_thread["attempt"]) == ("x0", 1)
    assert [line["message"] for line in exited] == ["worker exits/0: the handler called exit(3)"]


def test_lines_of_the_applications_own_configuration_stay_as_they_are_and_can_show_the_fields(site: Site) -> None:
    own = [line for line in site.log_path.read_text().splitlines() if line.startswith("OWN")]

    assert own == ["OWN o0/1/1 own/0 text", "OWN o1/5/1 own/0 text"]
    assert [line["message_id"] for line in lines(site, message="printed by own")] == ["o0", "o1"]


def test_logs_of_a_pool_has_what_its_handler_prints(site: Site) -> None:
    shown = site.ok("logs", "own", "-n", "0")

    assert "worker own/0[" in shown
    assert "printed by own  logger=stdout  message_id=o1\n" in shown


def test_a_stream_that_init_has_set_stays_and_one_of_a_run_goes(site: Site) -> None:
    site.ok("publish", "shouts", "--id-prefix", "again", stdin="x\n")
    site.wait_for_pool_counter("shouts", "done", 2)

    told = [line["message"] for line in lines(site, pool="shouts", logger="stdout")]
    assert [text for text in told if text.startswith("OF RUN")] == ["OF RUN S0", "OF RUN AGAIN0"]


def test_a_worker_that_leaves_is_in_no_run(site: Site) -> None:
    site.ok("stop")

    (left,) = lines(site, message="LEFT", pool="shouts")
    assert (left["slot"], left.get("message_id"), left.get("attempt")) == (0, None, None)
