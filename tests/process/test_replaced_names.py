"""User code replaces what preforkd's own code calls: all goes well, or the process ends with a reason that names it."""

from __future__ import annotations

import json

import pytest

from tests.support.site import Site
from tests.support.waiting import eventually


def handler(site: Site, code: str, where: str) -> None:
    """A handler that runs this code at import, in `init` or in a run."""
    body = {"import": "pass", "init": "pass", "run": f"exec({code!r}, {{}})"}[where]
    text = f"def run(message):\n    {body}\ndef init():\n    exec({code!r}, {{}})\n"
    (site.folder / "site_handler.py").write_text(f"{code}\n{text}" if where == "import" else text)
    if where == "init":
        hook = 'init = "site_handler:init"\nhandler = '
        site.config.write_text(site.config.read_text().replace("handler = ", hook))


LIVED_WITH = [
    "import sys; sys.exit = sys.getrecursionlimit = sys.settrace = None",
    "import os; os.write = os._exit = os.fork = os.read = None; os.getpid = os.getppid = lambda: 1",
    "import json, time, traceback; json.dumps = time.monotonic = traceback.format_exception = None",
    "import socket; socket.AF_UNIX = socket.SOCK_STREAM = socket.socket = None",
    "import select; select.select = select.poll = select.epoll = None",
    "import builtins; builtins.open = builtins.print = builtins.__import__ = None",
]


@pytest.mark.parametrize("where", ["import", "init", "run"])
def test_replaced_names_that_preforkd_has_bound_before_harm_nothing(site: Site, where: str) -> None:
    handler(site, "\n".join(LIVED_WITH), where)
    site.ok("start")
    site.ok("publish", "mail", stdin="1\n")
    site.wait_for_counter("done", 1)
    site.ok("stop")
    assert {record["cause"] for record in site.exits()} == {"clean_stop"}


NAMED = {
    "del builtins.len": "builtins.len",
    "builtins.isinstance = None": "builtins.isinstance",
    "builtins.str = None": "builtins.str",
    "[setattr(builtins, n, None) for n in ('len', 'min', 'max', 'iter', 'next', 'str', 'range')]": "and 2 more",
    "logging.getLogger = logging.getLogRecordFactory = logging.ERROR = None": "logging.ERROR",
}


@pytest.mark.parametrize("code", NAMED)
@pytest.mark.parametrize("where", ["import", "init"])
def test_a_boot_that_fails_by_a_replaced_name_says_which_one(site: Site, where: str, code: str) -> None:
    handler(site, f"import builtins, logging, socket\n{code}", where)
    failed = site.cli("start")
    assert failed.returncode in (1, 78)
    assert "; user code had replaced " in failed.stderr
    assert NAMED[code] in failed.stderr
    records = [json.loads(line) for line in site.ok("exits", "--json", "-n", "0").splitlines()]
    failures = [record for record in records if record["cause"] != "clean_stop"]
    assert {record["cause"] for record in failures} == {"boot_failed"}
    assert all("Traceback" in record["stack"] for record in failures)


@pytest.mark.parametrize("name", ["os.setpgid", "mmap.mmap", "fcntl.fcntl"])
def test_a_worker_that_fails_before_it_has_its_slot_says_why(site: Site, name: str) -> None:
    module = name.partition(".")[0]
    handler(site, f"import {module}; {name} = None", "import")
    with site.config.open("a") as config:  # else it is tried for a minute
        config.write("restart_intensity = [2, '60s']\nrestart_backoff = ['10ms', '10ms']\n")
    failed = site.cli("start")
    assert failed.returncode == 1
    assert "the worker failed before it had its slot: TypeError" in failed.stderr
    assert f"; user code had replaced {name}" in failed.stderr


def test_a_worker_that_a_run_has_broken_leaves_with_the_name_in_its_record(site: Site) -> None:
    handler(site, "import builtins; builtins.len = None", "run")
    site.ok("start")
    site.ok("publish", "mail", "--id-prefix", "m", stdin="1\n")
    site.wait_for_counter("dead", 1)
    eventually(lambda: site.exits(), "the exit is on record")
    (record,) = [record for record in site.exits() if record["cause"] == "crash"]
    assert (record["run"], record["message_id"]) == ("in_doubt", "m0")
    assert record["stack"].rstrip().endswith("; user code had replaced builtins.len")
