"""The status object of docs/control-protocol.md, printed for people."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.cli.console import as_arguments, block, shown
from supervisor.cli.status import ended_with, print_status
from tests.support import statuses

WORKER = statuses.worker(pid=11, handled=3)
EXITS = [statuses.exits("crash", 2, signal="SIGSEGV"), statuses.exits("timeout", 1, status=124)]


def status(*workers: dict[str, Any], **pool: Any) -> dict[str, Any]:
    """A daemon with one pool."""
    told = {"counters": {"done": 7, "failed": 0, "dead": 1}, "consumer": statuses.consumer(at=""), **pool}
    return statuses.status(61.0, EXITS, email=statuses.pool(*workers, **told))


def printed(capsys: pytest.CaptureFixture[str], facts: dict[str, Any]) -> list[str]:
    """The lines of the printed status, runs of blanks made one."""
    print_status(statuses.typed(facts))
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_it_shows_daemon_pool_connection_and_exits(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, status(WORKER))

    assert lines[0] == "preforkd 1.2.3 pid 1 running up 1m1s /etc/p.toml"
    assert "pool email: ok queue email 5 ready, 1 consumer(s)" in lines
    assert "consumer pid 10 consuming connected mq:5672 for 1m30s, 2 in flight" in lines
    assert "messages 7 done 1 dead" in lines
    assert "counted since the first start; messages in the queue now: `preforkd dead list email`" in lines
    assert "email/0 11 idle - - - 3 20MiB 0 -" in lines
    assert lines[-2:] == ["email worker crash SIGSEGV 2", "email worker timeout 124 1"]


def test_a_busy_worker_shows_its_message_attempt_time_and_limit(capsys: pytest.CaptureFixture[str]) -> None:
    busy = {"state": "running", "message_id": "m 1", "attempt": 2, "elapsed_s": 1.5, "limit_s": 30.0}

    assert "email/0 11 running 2 1.5s 30s 3 20MiB 0 m 1" in printed(capsys, status({**WORKER, **busy}))


@pytest.mark.parametrize(
    ("change", "limit"),
    [({"limit_s": 0.0}, "none"), ({"limit_s": 60.0, "limit_source": "message"}, "1m (message)")],
)
def test_a_limit_says_where_it_came_from(
    capsys: pytest.CaptureFixture[str], change: dict[str, Any], limit: str
) -> None:
    busy = {**WORKER, "state": "running", "attempt": 1, "elapsed_s": 1.0, **change}

    assert f"email/0 11 running 1 1s {limit} 3 20MiB 0 -" in printed(capsys, status(busy))


def test_a_worker_that_is_to_come_back_says_when(capsys: pytest.CaptureFixture[str]) -> None:
    gone = {**WORKER, "pid": None, "state": "backoff", "rss_bytes": 0, "restarts": 4, "restart_in_s": 2.0}

    assert "email/0 - backoff, again in 2s - - - 3 - 4 -" in printed(capsys, status(gone))


def test_a_held_pool_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    held = status(WORKER, state="held", why="10 deaths in 60s")

    assert "pool email: held (10 deaths in 60s) queue email 5 ready, 1 consumer(s)" in printed(capsys, held)


def test_notes_and_a_connection_that_never_was_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    away = {"pid": None, "state": "held", "restarts": 3, "why": "no such vhost", "notes": ["2 in doubt"], "at": ""}
    consumer = statuses.consumer(**away, in_flight=0, connection={"state": "connecting"})

    lines = printed(capsys, status(WORKER, consumer=consumer))

    assert "consumer pid - held (no such vhost), 3 restart(s) connecting for 0.0s, 0 in flight" in lines
    assert "note 2 in doubt" in lines


def test_children_that_belong_to_no_pool_are_shown_and_why_one_is_held(capsys: pytest.CaptureFixture[str]) -> None:
    web = statuses.sidecar("web")
    hooks = statuses.sidecar("hooks", pid=None, state="held", restarts=3, why="hooks left: crash (status 70)")

    lines = printed(capsys, status(WORKER) | {"sidecars": [web, hooks]})

    assert lines[1:3] == ["web pid 12 ready", "hooks pid - held (hooks left: crash (status 70)), 3 restart(s)"]


def test_a_history_without_exits_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, status(WORKER) | {"exits": []})[-1] == "no exits on record"


def test_an_end_is_its_signal_or_its_status_or_unknown() -> None:
    assert ended_with(None, "SIGKILL") == "SIGKILL"
    assert ended_with(0, None) == "0"
    assert ended_with(None, None) == "-"


def test_what_comes_from_outside_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    busy = {**WORKER, "attempt": 1, "state": "running", "message_id": "\x1b[31m[red]id\x07\n\u202e"}

    (line,) = [line for line in printed(capsys, status(busy)) if line.startswith("email/0")]

    assert line.endswith(r"\x1b[31m[red]id\x07\n\u202e")


def test_text_of_several_lines_keeps_them_and_nothing_else() -> None:
    assert block("a\n\tb\x1b[0m\r") == "a\n\tb\\x1b[0m\\r"
    assert shown("a\nb\ud800") == "a\\nb\\ud800"


@pytest.mark.parametrize(
    ("values", "typed"),
    [
        (("mail", "7"), "mail 7"),
        (("a b", "x;y"), "'a b' 'x;y'"),
        (("it's",), "'it'\"'\"'s'"),
        (("mail", "-x"), "-- mail -x"),
        (("",), "''"),
    ],
)
def test_what_people_are_to_copy_is_written_for_a_shell(values: tuple[str, ...], typed: str) -> None:
    assert as_arguments(*values) == typed
