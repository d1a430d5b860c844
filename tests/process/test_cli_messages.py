"""Publishing, reading exits, and handling dead messages through the command line, with a real daemon behind it."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest

from supervisor.brokers import open_admin
from supervisor.brokers.copy_headers import retry_copy
from supervisor.config.schema import BrokerConfig
from tests.support.site import Site
from tests.support.waiting import eventually


@pytest.fixture
def with_a_dead_message(running: Site) -> Site:
    running.ok("publish", "mail", "--id-prefix", "bad-", "--header", "tenant=7", stdin="fail\n")
    running.wait_for_counter("dead", 1)
    return running


# ---- publish --------------------------------------------------------------------------------------------------------


def test_each_line_is_a_message(running: Site) -> None:
    said = running.ok("publish", "mail", "--id-prefix", "m", stdin="one\ntwo\r\n\nfour")

    assert said == "published 4 message(s) to mail\n"
    eventually(lambda: running.runs() == ["m0 1 1", "m1 1 1", "m2 1 1", "m3 1 1"], "all four were run, in order")


def test_the_same_lines_published_again_run_nothing_twice(running: Site) -> None:
    for _ in range(2):
        running.ok("publish", "mail", "--id-prefix", "m", stdin="one\ntwo\n")

    running.wait_for_counter("duplicate", 2)
    assert running.runs() == ["m0 1 1", "m1 1 1"]


def test_messages_without_a_prefix_get_ids_of_their_own(running: Site) -> None:
    running.ok("publish", "mail", "--count", "3", stdin="same\n")

    running.wait_for_counter("done", 3)
    assert len({run.split()[0] for run in running.runs()}) == 3


def test_each_file_is_a_message_where_that_is_asked_for(running: Site) -> None:
    for name in ("a", "b"):
        (running.folder / name).write_text(f"{name}\nof two lines\n")

    said = running.ok("publish", "mail", "--files", str(running.folder / "a"), str(running.folder / "b"))

    assert said == "published 2 message(s) to mail\n"
    running.wait_for_counter("done", 2)


@pytest.mark.parametrize(
    ("queue", "advice"),
    [
        ("mial", "preforkd makes the queues of its pools only (mail); did you mean mail?"),
        ("elsewhere", "preforkd makes the queues of its pools only (mail)\n"),
        ("no\nqueue", "there is no queue no\\nqueue on "),
    ],
)
def test_a_queue_that_does_not_exist_is_named_with_what_to_do(running: Site, queue: str, advice: str) -> None:
    failed = running.cli("publish", queue, stdin="one\ntwo\n")

    assert (failed.returncode, failed.stdout) == (1, "")
    assert "there is no queue " in failed.stderr
    assert "on embedded queue (SQLite " in failed.stderr
    assert ": nothing was published; " in failed.stderr
    assert advice in failed.stderr


def test_a_queue_of_a_pool_that_never_ran_is_made_by_a_start(running: Site) -> None:
    running.config.write_text(running.config.read_text().replace('queue = "mail"', 'queue = "later"'))

    failed = running.cli("publish", "later", stdin="one\n")

    assert failed.returncode == 1
    assert "nothing was published; `preforkd start` makes it for pool mail" in failed.stderr


# ---- exits ----------------------------------------------------------------------------------------------------------


def test_exits_of_an_unknown_pool_are_an_error_with_the_known_ones(running: Site) -> None:
    for answer in (running.cli("exits", "--pool", "post"), running.cli("exits", "--pool", "post", "-f")):
        assert (answer.returncode, answer.stdout) == (1, "")
        assert "there is no pool 'post'; there are mail; and no exit of one is on record" in answer.stderr
    assert "no such exits on record" in running.ok("exits", "--pool", "mail")
    running.ok("stop")
    assert running.cli("exits", "--pool", "post").returncode == 1
    running.config.write_text(running.config.read_text().replace("pools.mail", "pools.post"))
    assert "mail/0" in running.ok("exits", "--pool", "mail"), "a pool that was removed is on record"
    running.config.write_text(running.config.read_text().replace('"mail"', '"${NOT_SET_ANYWHERE}"'))
    assert "no such exits on record" in running.ok("exits", "--pool", "other"), "the history needs no good file"


def test_a_crash_is_in_the_history_which_outlives_the_daemon(running: Site) -> None:
    running.ok("publish", "mail", "--id-prefix", "m", stdin="crash\n")
    running.wait_for_counter("dead", 1)
    running.ok("stop")

    (shown,) = running.ok("exits", "--cause", "crash").splitlines()[1:]
    assert "SIGSEGV" in shown
    assert "m0" in shown
    (record,) = map(json.loads, running.ok("exits", "--pool", "mail", "--cause", "crash", "--json").splitlines())
    assert (record["signal"], record["message_id"], record["run"]) == ("SIGSEGV", "m0", "in_doubt")
    assert "there is no pool 'other'" in running.cli("exits", "--pool", "other").stderr


def test_follow_shows_exits_as_they_happen_until_interrupted(running: Site) -> None:
    command = running.command("exits", "--follow", "--json", "--cause", "crash")
    with subprocess.Popen(command, env=running.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as follow:
        assert follow.stdout is not None
        running.ok("publish", "mail", "--id-prefix", "m", stdin="crash\n")

        assert json.loads(follow.stdout.readline())["message_id"] == "m0"

        follow.send_signal(signal.SIGINT)
        _, errors = follow.communicate(timeout=20)
    assert follow.returncode == 130
    assert errors.strip() == b"interrupted"


# ---- dead -----------------------------------------------------------------------------------------------------------


def test_a_dead_message_is_listed_and_shown_with_its_reason(with_a_dead_message: Site) -> None:
    site = with_a_dead_message

    (line,) = site.ok("dead", "list", "mail").splitlines()[1:]
    assert line.split()[:3] == ["bad-0", "failed", "1"]
    assert line.rstrip().endswith("ValueError: as ordered")
    shown = site.ok("dead", "show", "mail", "bad-0")
    assert "tenant: 7" in shown
    assert "Traceback (most recent call last)" in shown
    assert shown.rstrip().endswith("body: 4 byte(s)\nfail")


def test_a_list_that_leaves_messages_out_says_so_on_stderr_where_stdout_is_for_programs(running: Site) -> None:
    running.ok("publish", "mail", "--id-prefix", "bad-", stdin="fail\nfail\nfail\n")
    running.wait_for_counter("dead", 3)

    table = running.ok("dead", "list", "mail", "--limit", "2")
    assert table.splitlines()[-1] == "2 of 3 shown; --limit shows more"
    done = running.cli("dead", "list", "mail", "--limit", "2", "--json")
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == ["bad-0", "bad-1"]
    assert done.stderr == "2 of 3 shown; --limit shows more\n"


def test_looking_leaves_the_message_where_it_is(with_a_dead_message: Site) -> None:
    site = with_a_dead_message

    for _ in range(3):
        (found,) = map(json.loads, site.ok("dead", "list", "mail", "--json").splitlines())
        assert (found["id"], found["body"]) == ("bad-0", "fail")


def test_a_retried_message_runs_as_a_new_round(with_a_dead_message: Site) -> None:
    site = with_a_dead_message

    assert site.ok("dead", "retry", "mail", "bad-0") == "1 message(s) moved from mail.dead back to mail\n"

    site.wait_for_counter("dead", 2)
    assert site.runs() == ["bad-0 1 1", "bad-0 2 1"]
    (found,) = map(json.loads, site.ok("dead", "list", "mail", "--json").splitlines())
    assert found["properties"]["headers"]["tenant"] == "7"
    assert found["properties"]["headers"]["x-preforkd-round"] == 3


def test_a_message_that_fails_again_after_a_retry_is_shown_with_what_ended_both_rounds(
    with_a_dead_message: Site,
) -> None:
    site = with_a_dead_message
    (first,) = map(json.loads, site.ok("dead", "list", "mail", "--json").splitlines())

    site.ok("dead", "retry", "mail", "bad-0")
    site.wait_for_counter("dead", 2)

    (second,) = map(json.loads, site.ok("dead", "list", "mail", "--json").splitlines())
    (former,) = second["properties"]["headers"]["x-preforkd-former"]
    assert (former["round"], former["cause"], former["at"]) == (1, "failed", first["at"])
    assert former["at"] != second["at"]
    shown = site.ok("dead", "show", "mail", "bad-0")
    _, _, told = shown.partition("former round 1:\n")
    assert "reason: ValueError: as ordered" in told
    assert shown.count("Traceback (most recent call last)") == 2


def test_a_retry_that_reaches_the_queue_twice_runs_once(with_a_dead_message: Site) -> None:
    site = with_a_dead_message
    with open_admin(BrokerConfig(), str(site.folder / "state")) as admin:
        (dead,) = admin.take("mail.dead", 10)
        report = admin.publish([retry_copy(dead, "mail")] * 2, 10, lambda total: None)
        admin.requeue_all()
    assert report.sent == 2

    site.wait_for_counter("duplicate", 1)

    assert site.runs() == ["bad-0 1 1", "bad-0 2 1"]


def test_an_unknown_id_is_named_and_the_known_ones_are_done(with_a_dead_message: Site) -> None:
    done = with_a_dead_message.cli("dead", "drop", "mail", "bad-0", "other")

    assert done.returncode == 1
    assert "1 message(s) deleted" in done.stdout
    assert "there is no message other in mail.dead" in done.stderr
    assert "there are none" in with_a_dead_message.ok("dead", "list", "mail")


def test_dropping_everything_asks_first(with_a_dead_message: Site) -> None:
    site = with_a_dead_message

    assert site.cli("dead", "drop", "mail", "--all", stdin="n\n").returncode == 130
    assert len(site.ok("dead", "list", "mail", "--json").splitlines()) == 1
    assert "1 message(s) deleted" in site.ok("dead", "drop", "mail", "--all", "--yes")


def test_parked_messages_have_commands_of_their_own(site: Site) -> None:
    site.config.write_text(site.config.read_text().replace('on_crash = "retry"', 'on_crash = "park"'))
    site.ok("start")
    site.ok("publish", "mail", "--id-prefix", "m", stdin="crash\n")
    site.wait_for_counter("parked", 1)

    assert "there are none in mail.dead" in site.ok("dead", "list", "mail")
    assert "m0" in site.ok("dead", "list", "mail", "--parked")
    assert "mail.parked back to mail" in site.ok("dead", "retry", "mail", "--parked", "--all")
    eventually(lambda: site.runs() == ["m0 1 1", "m0 2 1"], "the parked message has run again")


def test_the_wrong_queue_is_explained(with_a_dead_message: Site) -> None:
    failed = with_a_dead_message.cli("dead", "list", "mail.dead")

    assert failed.returncode == 1
    assert "there is no queue mail.dead.dead; name the pool or its own queue" in failed.stderr
