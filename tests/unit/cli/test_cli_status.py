"""The status object of docs/control-protocol.md, printed for people."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.cli.console import as_arguments, block, shown
from supervisor.cli.status import ended_with, print_status

WORKER = {
    "name": "email/0",
    "slot": 0,
    "pid": 11,
    "generation": 7,
    "state": "idle",
    "message_id": "",
    "attempt": 0,
    "elapsed_s": 0.0,
    "limit_s": 0.0,
    "limit_source": "pool",
    "handled": 3,
    "rss_bytes": 20 * 1024**2,
    "restarts": 0,
    "restart_in_s": None,
}


def status(*workers: dict[str, Any], **pool: Any) -> dict[str, Any]:
    """A daemon with one pool."""
    connection = {"state": "connected", "host": "mq:5672", "since_s": 90.0, "opened": 1, "why": ""}
    consumer = {"pid": 10, "state": "consuming", "restarts": 0, "why": "", "connection": connection, "in_flight": 2}
    return {
        "version": "1.2.3",
        "pid": 1,
        "state": "running",
        "started_at": "",
        "uptime_s": 61.0,
        "config": "/etc/p.toml",
        "state_dir": "/s",
        "runtime_dir": "/r",
        "pools": {
            "email": {
                "state": "ok",
                "why": "",
                "queue": "email",
                "wanted": 4,
                "workers": list(workers),
                "forkserver": {"pid": 9, "state": "ready", "restarts": 0, "why": ""},
                "consumer": {**consumer, "notes": [], "at": ""},
                "depth": {"ready": 5, "consumers": 1},
                "counters": {"done": 7, "failed": 0, "dead": 1},
                **pool,
            }
        },
        "exits": [
            {"pool": "email", "kind": "worker", "cause": "crash", "status": None, "signal": "SIGSEGV", "count": 2},
            {"pool": "email", "kind": "worker", "cause": "timeout", "status": 124, "signal": None, "count": 1},
        ],
    }


def printed(capsys: pytest.CaptureFixture[str], facts: dict[str, Any]) -> list[str]:
    """The lines of the printed status, runs of blanks made one."""
    print_status(facts)
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_it_shows_daemon_pool_connection_and_exits(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, status(WORKER))

    assert lines[0] == "preforkd 1.2.3 pid 1 running up 1m1s /etc/p.toml"
    assert "pool email: ok queue email 5 ready, 1 consumer(s)" in lines
    assert "consumer pid 10 consuming connected mq:5672 for 1m30s, 2 in flight" in lines
    assert "messages 7 done 1 dead" in lines
    assert "counted ever since; what is in the queue now: `preforkd dead list email`" in lines
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
    held = status(WORKER, state="held", why="10 deaths in 60s", depth=None)

    assert "pool email: held (10 deaths in 60s) queue email depth unknown" in printed(capsys, held)


def test_notes_and_a_missing_connection_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    consumer = {"pid": None, "state": "held", "restarts": 3, "why": "no such vhost", "notes": ["2 in doubt"]}

    lines = printed(capsys, status(WORKER, consumer={**consumer, "in_flight": 0, "connection": {}}))

    assert "consumer pid - held (no such vhost), 3 restart(s) no connection yet" in lines
    assert "note 2 in doubt" in lines


def test_children_that_belong_to_no_pool_are_shown_and_why_one_is_held(capsys: pytest.CaptureFixture[str]) -> None:
    web = {"kind": "web", "pid": 12, "state": "ready", "restarts": 0, "why": ""}
    hooks = {"kind": "hooks", "pid": None, "state": "held", "restarts": 3, "why": "hooks left: crash (status 70)"}

    lines = printed(capsys, status(WORKER) | {"sidecars": [web, hooks]})

    assert lines[1:3] == ["web pid 12 ready", "hooks pid - held (hooks left: crash (status 70)), 3 restart(s)"]


def test_a_history_without_exits_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, status(WORKER) | {"exits": []})[-1] == "no exits on record"


def test_an_end_is_its_signal_or_its_status_or_unknown() -> None:
    assert ended_with({"status": None, "signal": "SIGKILL"}) == "SIGKILL"
    assert ended_with({"status": 0, "signal": None}) == "0"
    assert ended_with({"status": None, "signal": None}) == "-"


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
