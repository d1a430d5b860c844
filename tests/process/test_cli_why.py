"""`preforkd why` on a real daemon and on what a dead one has left: cause, message, stack, what was done, what to do."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.site import Site, make_site
from tests.support.waiting import eventually


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with make_site(tmp_path) as site:
        site.ok("start")
        yield site


def publish(site: Site, order: str, message_id: str) -> None:
    """Send one message; its id is `message_id` and a 0."""
    site.ok("publish", "mail", "--id-prefix", message_id, stdin=f"{order}\n")


def test_a_dead_message_tells_cause_reason_stack_and_what_to_do(site: Site) -> None:
    publish(site, "fail", "m")
    site.wait_for_counter("dead", 1)

    said = site.ok("why", "m0")

    for words in ("queue mail: given up", "the handler raised", "ValueError: as ordered", "site_handler.py"):
        assert words in said
    assert "preforkd dead retry mail m0" in said


def test_a_crash_is_told_by_its_message_its_worker_and_its_pool(site: Site) -> None:
    publish(site, "crash", "m")
    site.wait_for_counter("dead", 1)

    message, worker, pool = (site.ok("why", target) for target in ("m0", "mail/0", "mail"))

    for said in (message, worker, pool):
        assert "crash (SIGSEGV), running m0 (attempt 1)" in said
        assert "update C extensions" in said
        assert "in run" in said, "the stack"
    for said in (worker, pool):
        assert "now given up; its copy went to mail.dead" in said
        assert "its message was in doubt, and followed on_crash; it was replaced at once" in said
    assert "now      mail/0 idle" in worker
    assert "now      pool mail is ok" in pool


@pytest.mark.parametrize(
    ("order", "exit", "call"),
    [
        ("exit 3", "crash (status 3)", "raise SystemExit(int(name))"),
        ("exit 0", "unexpected_exit (status 0)", "raise SystemExit(int(name))"),
        ("interrupt", "crash (status 70)", "raise KeyboardInterrupt"),
    ],
)
def test_a_handler_that_ends_its_process_is_told_with_the_stack_of_the_call(
    site: Site, order: str, exit: str, call: str
) -> None:
    publish(site, order, "m")
    site.wait_for_counter("dead", 1)

    [record] = site.exits()
    told = [record["stack"], *(site.ok("why", target) for target in ("m0", "mail/0", "mail"))]

    for said in told:
        assert call in said
        assert re.search(r'site_handler\.py", line \d+, in run', said)
        assert "supervisor/worker/" not in said
        assert "C extensions" not in said
    assert exit in told[1]


def test_a_syntax_error_below_a_run_names_file_and_line(site: Site) -> None:
    (site.folder / "broken.py").write_text("fine = 1\n\ndef run(:\n")
    publish(site, "import broken", "m")
    site.wait_for_counter("dead", 1)
    said = site.ok("why", "m0")
    assert "(broken.py, line 3)" in said
    assert f'File "{site.folder}/broken.py", line 3' in said


def test_a_syntax_error_below_init_names_file_and_line(site: Site) -> None:
    (site.folder / "broken.py").write_text("fine = 1\n\ndef run(:\n")
    with (site.folder / "site_handler.py").open("a") as handler:
        handler.write("\ndef connect():\n    import broken\n")
    site.config.write_text(site.config.read_text() + 'init = "site_handler:connect"\n')
    site.cli("reload")
    record = eventually(lambda: [one for one in site.exits() if one["cause"] == "boot_failed"], "a boot has failed")[0]
    assert f'File "{site.folder}/broken.py", line 3' in record["stack"]
    assert "in connect" in record["stack"]
    assert record["stack"].rstrip().endswith("(broken.py, line 3)")


def test_without_a_daemon_its_files_say_the_same(site: Site) -> None:
    publish(site, "crash", "m")
    site.wait_for_counter("dead", 1)
    with_daemon = [site.ok("why", target) for target in ("m0", "mail/0")]
    os.kill(site.status()["pid"], signal.SIGKILL)
    eventually(lambda: not site.processes(), "nothing of the daemon is left")

    without = [site.ok("why", target) for target in ("m0", "mail/0")]

    for said, before in zip(without, with_daemon, strict=True):
        assert said.splitlines()[-1] == "note     no daemon runs: these facts are from its files"
        facts = [line for line in before.splitlines() if not line.startswith("now")]
        assert set(facts) <= set(said.splitlines())


def test_a_message_that_runs_names_its_worker_and_its_limit(site: Site) -> None:
    os.mkfifo(site.folder / "gate")
    publish(site, "wait gate", "m")
    site.wait_until_running("m0")

    said = site.ok("why", "m0")

    assert "mail/0 running m0, attempt 1, for" in said
    assert "of 30s (pool)" in said
    (site.folder / "gate").write_text("go")


def test_a_message_that_waits_is_known_before_anybody_runs_it(site: Site) -> None:
    os.mkfifo(site.folder / "gate")
    publish(site, "wait gate", "m")
    site.wait_until_running("m0")
    publish(site, "nothing", "n")

    eventually(lambda: "waiting for a free worker" in site.cli("why", "n0").stdout, "n0 is delivered and waits")

    (site.folder / "gate").write_text("go")


def test_an_unknown_target_is_named_and_fails(site: Site) -> None:
    unknown = site.cli("why", "never-heard-of")
    assert unknown.returncode == 1
    assert "there is no pool 'never-heard-of'; there are mail; and no trace" in unknown.stderr
    assert "there is no worker mail/9" in site.cli("why", "mail/9").stderr
    assert site.cli("why", "mail/first").returncode == 2


def test_a_message_with_the_name_of_a_pool_can_be_asked_for(site: Site) -> None:
    site.ok("publish", "mail", "--id-prefix", "mail/", stdin="nothing\n")
    site.wait_for_counter("done", 1)
    assert "mail/0, queue mail: done" in site.ok("why", "--message", "mail/0")


def test_a_consumer_that_does_not_answer_is_named_and_no_client_waits_for_ever(site: Site) -> None:
    publish(site, "fail", "m")
    site.wait_for_counter("dead", 1)
    consumer = site.status()["pools"]["mail"]["consumer"]["pid"]
    os.kill(consumer, signal.SIGSTOP)
    try:
        said = site.cli("why", "m0")
    finally:
        os.kill(consumer, signal.SIGCONT)
    assert said.returncode == 1
    assert "pool mail: its consumer did not answer within 3 s" in said.stderr
    assert "given up" in site.ok("why", "m0"), "and the next answer is heard again"


def test_why_shows_nothing_a_terminal_would_obey(site: Site) -> None:
    subprocess.run(
        site.command("publish", "mail", "--id-prefix", "\x1b[2J"),
        input="fail\n",
        text=True,
        env=site.environment,
        check=True,
        timeout=60,
        stdout=subprocess.DEVNULL,
    )
    site.wait_for_counter("dead", 1)
    assert "\x1b" not in site.ok("why", "\x1b[2J0")


@pytest.mark.parametrize(("asked", "delay_s", "words"), [("30 * 86400", 7 * 86400, "7d"), ("77", 120, "2m")])
def test_a_delay_is_told_as_it_is_and_not_as_it_was_asked_for(
    asked: str, delay_s: float, words: str, tmp_path: Path
) -> None:
    with make_site(tmp_path) as site:
        site.config.write_text(site.config.read_text().replace("max_attempts = 1", "max_attempts = 3"))
        handler = f"from supervisor import Retry\n\ndef run(message):\n    raise Retry({asked})\n"
        (tmp_path / "site_handler.py").write_text(handler)
        site.ok("start")
        publish(site, "later", "m")
        site.wait_for_counter("retried", 1)

        assert f"attempt 2 comes {words} after this failure" in site.ok("why", "m0")
        said = [json.loads(line) for line in site.log_path.read_text().splitlines()]
        told = {line["event"]: line["delay_s"] for line in said if line.get("message_id") == "m0" and "delay_s" in line}
        assert told["message.retried"] == delay_s
