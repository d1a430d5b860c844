"""The control client against servers that are not there, silent, or not preforkd: each has its own sentence."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from supervisor.control import SOCKET_NAME
from supervisor.control.client import ControlClient, NotRunning
from supervisor.errors import ControlError
from supervisor.system.clock import monotonic_s
from tests.support.nobody import a_public_folder, answer_of_nobody, needs_root


@contextmanager
def a_server_that(runtime_dir: Path, says: bytes | None) -> Iterator[None]:
    """Accept one client, read once, say this and hang up; None: say nothing until the end."""
    over = threading.Event()

    def serve() -> None:
        peer, _address = listener.accept()
        with peer:
            peer.recv(1000)
            if says is None:
                over.wait(20.0)
            else:
                peer.sendall(says)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(runtime_dir / SOCKET_NAME))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(20.0)


def test_no_socket_means_not_running_and_says_how_to_start(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match=r"not running: nothing listens at .*control\.sock; `preforkd start`"):
        ControlClient(tmp_path)


def test_a_socket_without_a_listener_means_not_running(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / SOCKET_NAME))

    with pytest.raises(NotRunning):
        ControlClient(tmp_path)


def test_a_silent_daemon_is_given_up_after_the_timeout(tmp_path: Path) -> None:
    with (
        a_server_that(tmp_path, says=None),
        ControlClient(tmp_path, timeout_s=0.05) as client,
        pytest.raises(ControlError, match=r"did not answer within 0\.05 s"),
    ):
        client.ask("ping")


def test_a_daemon_too_busy_to_accept_is_given_up_after_the_timeout(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, ExitStack() as stack:
        listener.bind(str(tmp_path / SOCKET_NAME))
        listener.listen(0)
        stack.enter_context(ControlClient(tmp_path))  # all that fits into the backlog

        began_s = monotonic_s()
        with pytest.raises(ControlError, match=r"did not answer within 0\.05 s"):
            ControlClient(tmp_path, timeout_s=0.05)
        assert monotonic_s() - began_s >= 0.04, "it gave up at once"


@pytest.mark.parametrize("says", [b"", b'{"ok": tr'])
def test_a_daemon_that_hangs_up_is_told_from_one_that_is_silent(tmp_path: Path, says: bytes) -> None:
    with (
        a_server_that(tmp_path, says),
        ControlClient(tmp_path) as client,
        pytest.raises(ControlError, match="closed the connection before its answer"),
    ):
        client.ask("ping")


def test_another_programs_protocol_is_recognized(tmp_path: Path) -> None:
    with (
        a_server_that(tmp_path, b"220 smtp.example.org ready\n"),
        ControlClient(tmp_path) as client,
        pytest.raises(ControlError, match="not preforkd's"),
    ):
        client.ask("ping")


def test_two_answers_in_one_read_are_two_answers(tmp_path: Path) -> None:
    lines = b'{"ok": true, "result": {"n": 1}}\n{"ok": true, "result": {"n": 2}}\n'
    with a_server_that(tmp_path, lines), ControlClient(tmp_path) as client:
        assert client.ask("stop") == {"n": 1}
        assert client.next_answer() == {"n": 2}


@needs_root
def test_missing_permission_says_whose_job_it_is() -> None:
    with a_public_folder() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / SOCKET_NAME))
        (folder / SOCKET_NAME).chmod(0o600)
        listener.listen()
        with answer_of_nobody(lambda: _connecting(folder)) as reader:
            said = os.read(reader, 65536).decode()

    assert said.startswith("ControlError")
    assert "no permission; use the daemon's user, or root" in said


def _connecting(runtime_dir: Path) -> str:
    try:
        ControlClient(runtime_dir).close()
    except ControlError as error:
        return f"{type(error).__name__}: {error}"
    return "connected"
