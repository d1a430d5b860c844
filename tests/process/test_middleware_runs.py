"""Middleware in a real daemon: each run goes through it, and what it raises is on record under its name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.site import Site, make_site
from tests.support.source_tree import ROOT
from tests.support.waiting import eventually

_HANDLER = """
import asyncio, contextlib, json, logging, os, sys
from pathlib import Path
from supervisor import Reject, SoftTimeout

HERE = Path(__file__).parent

def note(message, text):
    with open(HERE / "notes.txt", "a") as notes:
        notes.write(f"{message.id} {text}\\n")

def run(message):
    note(message, "handler")
    if message.text() == "fail":
        raise ValueError("as ordered")
    if message.text() == "fork" and os.fork() == 0:
        return
    message.publish(b"handler", routing_key="audit")

def audit(message):
    note(message, message.text())

def connect():
    global connected
    connected = True

class Sync:
    def __init__(self):
        assert connected

    @contextlib.contextmanager
    def around(self, message):
        note(message, "enter")
        yield
        note(message, "leave")

    def before(self, message):
        if message.text() == "refuse":
            raise KeyError("language")
        if message.text() == "reject":
            raise Reject("not ours")
        if message.text() == "exit":
            sys.exit(3)

    def failed(self, message, error):
        note(message, f"failed {type(error).__name__}")
        raise OSError("no network")

class Async:
    async def before(self, message):
        await asyncio.sleep(0)
        message.publish(b"before", routing_key="audit")

    async def after(self, message):
        await asyncio.sleep(0)
        note(message, "after")

class Slow:
    async def before(self, message):
        await asyncio.sleep(60)

    def failed(self, message, error):
        note(message, f"failed {type(error).__name__}")

class Broken:
    def __init__(self):
        raise RuntimeError("no database here")

    def before(self, message): ...
"""

_POOLS = """
[pools.slow]
queue = "slow"
handler = "site_handler:run"
middleware = ["site_handler:Slow"]
path = ["."]
workers = 1
timeout = "20s"
soft_timeout = "300ms"
max_attempts = 1
[pools.audit]
queue = "audit"
handler = "site_handler:audit"
path = ["."]
workers = 1
missing_id = "run"
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A daemon that has run a message of each kind; the id is its text."""
    with make_site(tmp_path_factory.mktemp("site")) as site:
        (site.folder / "site_handler.py").write_text(_HANDLER)
        names = 'middleware = ["site_handler:Sync", "site_handler:Async"]\ninit = "site_handler:connect"'
        settings = site.config.read_text().replace("max_attempts = 1", f"max_attempts = 1\n{names}")
        site.config.write_text(settings + _POOLS)
        site.ok("start")
        for text in ("good", "fail", "refuse", "reject", "fork", "exit"):
            site.ok("publish", "mail", "--id-prefix", f"{text}-", stdin=f"{text}\n")
        site.ok("publish", "slow", "--id-prefix", "slow-", stdin="x\n")
        site.wait_for_counter("dead", 4)
        site.wait_for_counter("done", 2)
        site.wait_for_pool_counter("slow", "dead", 1)
        site.wait_for_pool_counter("audit", "done", 4)
        yield site


def notes(site: Site, message_id: str) -> list[str]:
    """What was noted of a message."""
    lines = (site.folder / "notes.txt").read_text().splitlines()
    return [text for name, _, text in (line.partition(" ") for line in lines) if name == message_id]


def reason(site: Site, message_id: str) -> str:
    """Why a message is dead."""
    lines = (json.loads(line) for line in site.log_path.read_text().splitlines() if line.startswith("{"))
    (found,) = (line for line in lines if line["event"] == "message.dead" and line["message_id"] == message_id)
    return str(found["reason"])


def test_a_run_goes_through_all_of_it_and_what_it_publishes_arrives(site: Site) -> None:
    assert notes(site, "good-0") == ["enter", "handler", "after", "leave"]
    lines = (site.folder / "notes.txt").read_text().splitlines()
    published = sorted(line.partition(" ")[2] for line in lines if line.startswith("preforkd-"))
    assert published == ["before", "before", "handler", "handler"]


def test_the_exception_of_a_handler_reaches_failed_and_stays_the_reason(site: Site) -> None:
    assert notes(site, "fail-0") == ["enter", "handler", "failed ValueError"]
    assert reason(site, "fail-0") == "ValueError: as ordered"
    log = site.log_path.read_text()
    told = "middleware site_handler:Sync.failed raised OSError: no network; the run keeps its own reason"
    (line,) = (json.loads(line) for line in log.splitlines() if told in line and "fail-0" in line)
    assert (line["message_id"], line["logger"]) == ("fail-0", "preforkd.middleware")


def test_an_exception_of_a_middleware_is_a_failed_attempt_with_its_name(site: Site) -> None:
    assert reason(site, "refuse-0") == "middleware site_handler:Sync.before: KeyError: 'language'"
    assert notes(site, "refuse-0") == ["enter", "failed KeyError"]


def test_a_reject_of_a_middleware_dead_letters_the_message(site: Site) -> None:
    assert reason(site, "reject-0") == "not ours"
    assert notes(site, "reject-0") == ["enter", "failed Reject"]


def test_an_exit_in_a_middleware_is_an_exit_of_the_worker(site: Site) -> None:
    (record,) = (record for record in site.exits() if record["message_id"] == "exit-0")

    assert (record["cause"], record["status"], record["run"]) == ("crash", 3, "in_doubt")
    assert "in before" in record["stack"]
    assert notes(site, "exit-0") == ["enter"]


def test_a_child_that_comes_back_out_of_a_handler_runs_nothing_of_it(site: Site) -> None:
    assert notes(site, "fork-0") == ["enter", "handler", "after", "leave"]


def test_the_soft_limit_strikes_in_an_async_method(site: Site) -> None:
    assert reason(site, "slow-0") == "middleware site_handler:Slow.before: the soft limit of 0.3 s is over"
    assert notes(site, "slow-0") == ["failed SoftTimeout"]


def test_the_example_works_as_its_head_says(tmp_path: Path) -> None:
    with make_site(tmp_path) as site:
        shutil.copytree(ROOT / "etc/examples/middleware", tmp_path, dirs_exist_ok=True)
        site.ok("start")
        site.ok("publish", "reports", "--header", "tenant=acme", "--id-prefix", "good-", stdin='{"n": 1}')
        site.ok("publish", "reports", "--id-prefix", "odd-", stdin='{"n": 2}')
        site.wait_for_pool_counter("reports", "done", 1)
        site.wait_for_pool_counter("reports", "dead", 1)
        assert site.log_path.exists()
        shown = site.ok("logs", "reports", "-n", "0")

    for text in (
        "report 1 for acme  logger=stdout  message_id=good-0",
        "ms  logger=around  message_id=good-0",
        "a run for no tenant failed: Reject('the header `tenant` is missing')",
    ):
        assert text in shown
    assert "took 0 ms  logger=around  message_id=odd-0" in shown, "it is outermost, so it sees a Reject"


# ---- at the start ---------------------------------------------------------------------------------------------------


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[Site]:
    """A pool whose middleware cannot be made."""
    with make_site(tmp_path) as site:
        (site.folder / "site_handler.py").write_text(_HANDLER)
        text = site.config.read_text()
        site.config.write_text(text.replace("workers = 1", 'workers = 1\nmiddleware = ["site_handler:Broken"]'))
        yield site


def test_check_names_a_middleware_that_cannot_be_made_and_one_that_is_none(broken: Site) -> None:
    shown = broken.cli("check").stdout
    assert "pools.mail.middleware: 'site_handler:Broken': a worker cannot boot: " in " ".join(shown.split())
    assert "middleware site_handler:Broken: RuntimeError: no database here" in " ".join(shown.split())

    text = broken.config.read_text()
    broken.config.write_text(text.replace("site_handler:Broken", "site_handler:connect"))
    fault = "middleware site_handler:connect has none of the methods before, after, failed, around"
    assert fault in " ".join(broken.cli("check").stdout.split())

    broken.config.write_text(text.replace("site_handler:Broken", "site_handler:Slow"))
    assert "site_handler:Slow runs; a worker is ready in" in broken.ok("check")


def test_a_middleware_that_cannot_be_made_is_a_failed_boot_with_its_name(broken: Site) -> None:
    broken.cli("start")

    (first, *_) = eventually(broken.exits, "a worker has left")
    assert first["cause"] == "boot_failed"
    assert first["stack"].endswith("middleware site_handler:Broken: RuntimeError: no database here\n")
