"""The control socket is removed or replaced, or looked for elsewhere, while the daemon runs: a way to it is left."""

from __future__ import annotations

import json

import pytest

from tests.support.site import Site
from tests.support.waiting import eventually


def answers(site: Site) -> bool:
    """Whether the daemon can be asked."""
    return site.cli("status").stdout.startswith("preforkd ")


def events(site: Site) -> list[str]:
    """What the log tells of the control socket."""
    lines = (json.loads(line) for line in site.log_path.read_text().splitlines())
    return [line["event"] for line in lines if str(line.get("event")).startswith("control.")]


def test_a_control_socket_that_was_removed_is_made_again(running: Site) -> None:
    socket = running.folder / "run" / "control.sock"
    for _ in range(2):
        socket.unlink()
        eventually(socket.is_socket, "the daemon has made it again")
    assert answers(running)
    assert socket.stat().st_mode & 0o777 == 0o600
    assert events(running) == ["control.restored"] * 2
    running.ok("stop")
    assert not socket.exists()


def test_a_file_in_the_place_of_the_control_socket_is_left_alone_and_named(running: Site) -> None:
    socket = running.folder / "run" / "control.sock"
    socket.unlink()
    socket.write_text("mine")
    eventually(lambda: "control.missing" in events(running), "the log names it")
    for command in (["status"], ["reload"], ["pause", "mail"]):
        done = running.cli(*command)
        assert "this is no socket: remove it, and the daemon makes its own again" in done.stdout + done.stderr
        assert done.returncode == (0 if command == ["status"] else 1), "it runs"
    assert socket.read_text() == "mine"
    socket.unlink()
    eventually(lambda: answers(running), "the daemon can be asked again")
    assert events(running) == ["control.missing", "control.restored"]


def test_a_changed_runtime_dir_is_refused_by_name_and_hides_no_daemon(running: Site) -> None:
    pid, text = running.status()["pid"], running.config.read_text()
    running.config.write_text(text.replace('runtime_dir = "run"', 'runtime_dir = "elsewhere"'))
    told = "a runtime_dir cannot change while the daemon runs"
    reload, status, paused = running.cli("reload"), running.cli("status"), running.cli("pause", "mail")
    assert (reload.returncode, status.returncode, paused.returncode) == (78, 0, 78)
    for done in (reload, status, paused):
        assert told in done.stdout + done.stderr
        assert f"pid {pid}" in done.stdout + done.stderr
    assert "warning  daemon.runtime_dir: the running daemon (pid" in running.cli("check").stdout
    running.config.write_text(text)
    assert running.status()["pid"] == pid, "the old configuration goes on"


def test_a_restart_takes_up_a_changed_runtime_dir(running: Site) -> None:
    text = running.config.read_text()
    running.config.write_text(text.replace('runtime_dir = "run"', 'runtime_dir = "elsewhere"'))
    running.ok("restart")
    assert not (running.folder / "run" / "control.sock").exists()
    assert answers(running)
    running.ok("stop")


def test_check_tells_which_changes_a_reload_would_refuse(running: Site) -> None:
    text = running.config.read_text()
    running.config.write_text(text.replace('state_dir = "state"', 'state_dir = "other"'))
    assert "warning  daemon.state_dir: the running daemon (pid" in running.cli("check").stdout
    assert running.cli("reload").returncode == 78
    running.config.write_text(text)
    assert "a reload is refused" not in running.cli("check").stdout


@pytest.mark.parametrize("how", ["deleted", "a directory", "writable for all", "no text"])
def test_a_reload_without_a_good_file_is_refused_as_check_refuses_it(running: Site, how: str) -> None:
    pid = running.status()["pid"]
    if how == "writable for all":
        running.config.chmod(0o666)
    else:
        running.config.unlink()
    if how == "a directory":
        running.config.mkdir()
    elif how == "no text":
        running.config.write_bytes(b"\xff\xfe")
        running.config.chmod(0o644)
    reload, check = running.cli("reload"), running.cli("check")
    assert (reload.returncode, check.returncode) == (78, 78)
    assert reload.stderr.splitlines()[1].strip() in check.stdout
    assert running.status()["pid"] == pid
    assert running.status()["reload"] is None
