"""`status --probe live|ready` of real daemons: what a container platform restarts, and what it takes for ready."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress

import pytest

from supervisor.cli import probe
from supervisor.control import SOCKET_NAME
from tests.support.site import Site
from tests.support.waiting import eventually

_HELD = "\nrestart_intensity = [1, '60s']\nrestart_backoff = ['10ms', '10ms']\nhold_retry = '1h'\n"


def asked(site: Site, kind: str) -> tuple[int, str]:
    """The exit code of a probe and its line."""
    done = site.cli("status", "--probe", kind)
    assert done.stderr == ""
    return done.returncode, done.stdout


def stays_live(site: Site) -> bool:
    return asked(site, "live") == (0, "live\n")


def test_a_daemon_that_works_is_live_and_ready(running: Site) -> None:
    assert asked(running, "live") == (0, "live\n")
    assert asked(running, "ready") == (0, "ready\n")


def test_a_paused_pool_is_not_ready_and_no_reason_for_a_restart(running: Site) -> None:
    running.ok("pause", "mail")

    code, line = asked(running, "ready")
    assert (code, line[:39]) == (1, "not ready: pool mail: its consumer is p")
    assert stays_live(running)
    running.ok("resume", "mail")
    eventually(lambda: asked(running, "ready") == (0, "ready\n"), "it is ready again")


def test_a_held_pool_is_not_ready_and_no_reason_for_a_restart(site: Site) -> None:
    site.config.write_text(site.config.read_text() + _HELD)
    (site.folder / "site_handler.py").write_text("import os\ndef run(message):\n    os._exit(9)\n")
    site.ok("start")
    site.ok("publish", "mail", stdin="1\n2\n3\n4\n")
    eventually(lambda: site.status()["pools"]["mail"]["state"] == "held", "the pool is held")

    code, line = asked(site, "ready")

    assert (code, line) == (1, "not ready: pool mail is held (mail/0 left: crash (status 9))\n")
    assert stays_live(site)


def test_a_broker_that_is_away_is_no_reason_for_a_restart(site: Site) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"amqp://127.0.0.1:{unused.getsockname()[1]}"
        site.config.write_text(site.config.read_text().replace("embedded:", url))
        site.cli("start", "--timeout", "1s")  # it goes on starting

        code, line = asked(site, "ready")

        assert (code, line.startswith("not ready: ")) == (1, True)
        assert stays_live(site)


def test_a_master_that_does_not_turn_is_not_live(running: Site) -> None:
    pid = running.status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        code, line = asked(running, "live")
    finally:
        os.kill(pid, signal.SIGCONT)

    assert (code, line) == (1, "not live: the daemon did not answer within 4 s: it hangs, or was stopped (SIGSTOP)\n")
    assert stays_live(running)


def test_without_a_daemon_it_is_neither_and_the_line_says_why(site: Site) -> None:
    for kind in probe.KINDS:
        code, line = asked(site, kind)
        assert (code, line.count("\n")) == (1, 1)
        assert line.startswith(f"not {kind}: preforkd is not running: nothing listens at {site.folder}/run/")


def test_a_dead_daemon_is_neither_although_its_socket_is_there(running: Site) -> None:
    os.kill(running.status()["pid"], signal.SIGKILL)
    eventually(lambda: asked(running, "live")[0] == 1, "it is not live")

    assert (running.folder / "run" / SOCKET_NAME).is_socket()


def test_a_configuration_that_became_wrong_does_not_end_the_daemon(
    running: Site, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A platform would restart a daemon that runs, and that could not start again."""
    monkeypatch.setattr(probe, "RUNTIME_DIR", str(running.folder / "run"))  # a file without the key: the default place
    running.config.write_text("[daemon]\nruntime_dir = [\n")
    monkeypatch.setattr(sys, "argv", ["preforkd", "--config", str(running.config), "status", "--probe", "live"])

    from supervisor.cli import main

    assert main() == 0
    assert capfd.readouterr().out == "live\n"


def test_a_wrong_configuration_without_a_daemon_is_told_as_such(site: Site) -> None:
    site.config.write_text("[daemon]\nruntime_dir = [\n")

    done = site.cli("status", "--probe", "live")

    assert (done.returncode, done.stdout) == (78, "")
    assert "not TOML" in done.stderr


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400\n", b"[]\n", b'{"ok": true}\n', b'{"ok": true, "result": 3}\n'])
def test_an_answer_of_another_program_is_a_failure(site: Site, answer: bytes) -> None:
    (site.folder / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(site.folder / "run" / SOCKET_NAME))
        listener.listen()
        command = subprocess.Popen(
            site.command("status", "--probe", "live"), env=site.environment, stderr=-1, text=True
        )
        for _ in range(2):  # the quick way, and the command's
            peer, _address = listener.accept()
            with peer, suppress(OSError):
                peer.recv(1000)
                peer.sendall(answer)
        _out, complaint = command.communicate(timeout=30)

    assert command.returncode == 1
    assert "is not preforkd's" in complaint
    assert "Traceback" not in complaint


def test_a_reason_cannot_command_a_terminal(site: Site) -> None:
    (site.folder / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(site.folder / "run" / SOCKET_NAME))
        listener.listen()
        command = subprocess.Popen(site.command("status", "--probe", "ready"), env=site.environment, stdout=-1)
        peer, _address = listener.accept()
        with peer:
            assert peer.recv(1000) == b'{"verb": "probe", "kind": "ready"}\n'
            peer.sendall(b'{"ok": false, "error": "a\\u001b[2J\\nb"}\n')
        printed, _error = command.communicate(timeout=30)

    assert (command.returncode, printed) == (1, b"not ready: a\\x1b[2J\\nb\n")


@pytest.mark.parametrize(
    ("kind", "code", "line"), [("live", 0, "live"), ("ready", 1, "not ready: there is no verb 'probe'")]
)
def test_a_refusal_is_a_sign_of_life_and_no_readiness(site: Site, kind: str, code: int, line: str) -> None:
    """As of a daemon of an earlier version, or one that serves as many clients as it can."""
    (site.folder / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(site.folder / "run" / SOCKET_NAME))
        listener.listen()
        command = subprocess.Popen(site.command("status", "--probe", kind), env=site.environment, stdout=-1, text=True)
        peer, _address = listener.accept()
        with peer:
            assert peer.recv(1000)
            peer.sendall(b'{"ok": false, "error": "there is no verb \'probe\'", "status": 1}\n')
        printed, _error = command.communicate(timeout=30)

    assert (command.returncode, printed) == (code, f"{line}\n")


@pytest.mark.parametrize("other", ["--json", "--watch"])
def test_a_probe_prints_one_line_and_nothing_else(site: Site, other: str) -> None:
    done = site.cli("status", other, "--probe", "live")

    assert (done.returncode, "goes with neither" in done.stderr) == (2, True)


EXPENSIVE = {"click", "msgspec", "logging", "pathlib", "tomllib", "dataclasses", "inspect", "supervisor.cli.program"}
"""Each costs a probe more time than its whole work takes."""


@pytest.mark.parametrize("arguments", [("status", "--probe", "ready"), ("status", "--probe=ready")])
def test_a_probe_imports_nothing_that_costs_time(running: Site, arguments: tuple[str, ...]) -> None:
    """In a container, where [daemon] runtime_dir is the default; -I -S: without what a test environment preloads."""
    config = running.folder / "plain.toml"
    config.write_text("[pools]\n")
    code = (
        f"import sys; sys.path.insert(0, {running.environment['PYTHONPATH']!r}); before = set(sys.modules)\n"
        f"import supervisor.config.location as location; location.RUNTIME_DIR = {str(running.folder / 'run')!r}\n"
        f"from supervisor.cli import main; sys.argv = ['preforkd', '--config', {str(config)!r}, *{arguments!r}]\n"
        "status = main(); print(status, *sorted(set(sys.modules) - before))"
    )

    told = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True).stdout

    assert told.startswith("ready\n0 ")
    assert EXPENSIVE & set(told.split()) == set()
