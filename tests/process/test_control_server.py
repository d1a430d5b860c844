"""The control server over real sockets: whatever clients do, it answers the next one and its loop goes on turning."""

from __future__ import annotations

import json
import os
import resource
import select
import socket
import stat
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor.control.protocol import MAX_REQUEST_BYTES, Pending, Request, Result
from supervisor.control.server import BUDGET_S, MAX_CONNECTIONS, ControlServer
from supervisor.errors import ConfigError, ControlError, Problem, StateError
from supervisor.system.reactor import Reactor
from tests.support.control import Served, read_line, read_to_end, served
from tests.support.nobody import NOBODY, a_public_folder, answer_of_nobody, needs_root
from tests.support.waiting import eventually


def pong(request: Request) -> Result:
    """The simplest handler."""
    return {"pong": request["verb"]}


def asked(subject: Served) -> Result:
    """One ordinary request; proof that the server is well."""
    with subject.client() as client:
        return client.ask("ping")


# ---- requests and answers -------------------------------------------------------------------------------------------


def test_a_request_is_answered(tmp_path: Path) -> None:
    with served(tmp_path, pong) as subject:
        assert asked(subject) == {"pong": "ping"}


def test_several_requests_in_one_write_are_answered_in_order(tmp_path: Path) -> None:
    with served(tmp_path, pong) as subject, subject.raw() as sock:
        sock.sendall(b'{"verb": "ping"}\n{"verb": "status"}\n{"verb": "ping"}\n')

        answers = [json.loads(read_line(sock))["result"]["pong"] for _ in range(3)]

    assert answers == ["ping", "status", "ping"]


def test_a_client_with_many_requests_lets_the_loop_turn_between_them(tmp_path: Path) -> None:
    with served(tmp_path, pong) as subject, subject.raw() as sock:
        before = subject.turns
        sock.sendall(b'{"verb": "ping"}\n' * 200)
        for _ in range(200):
            read_line(sock)

        assert subject.turns - before >= 150


def test_a_last_line_without_its_end_is_answered_too(tmp_path: Path) -> None:
    with served(tmp_path, pong) as subject, subject.raw() as sock:
        sock.sendall(b'{"verb": "ping"}')
        sock.shutdown(socket.SHUT_WR)

        assert json.loads(read_to_end(sock)) == {"ok": True, "result": {"pong": "ping"}}


def test_a_request_whose_client_has_hung_up_is_still_obeyed(tmp_path: Path) -> None:
    with served(tmp_path, pong) as subject:
        with subject.raw() as sock:
            sock.sendall(b'{"verb": "stop"}\n')
        eventually(lambda: subject.seen, "the request was obeyed")
        assert asked(subject)


def test_a_refusal_carries_the_words_and_exit_code_of_its_error(tmp_path: Path) -> None:
    def refuse(request: Request) -> Result:
        raise ConfigError("a.toml", [Problem("log.level", "loud", "unknown")])

    with (
        served(tmp_path, refuse) as subject,
        subject.client() as client,
        pytest.raises(ControlError, match="loud") as caught,
    ):
        client.ask("ping")

    assert caught.value.exit_code == 78


def test_a_bug_in_a_verb_ends_neither_the_loop_nor_the_connection(tmp_path: Path) -> None:
    def stumble(request: Request) -> Result:
        return {"never": 1 / 0} if request["verb"] == "status" else {"fine": True}

    with served(tmp_path, stumble) as subject, subject.client() as client:
        with pytest.raises(ControlError, match=r"the daemon failed to answer .*ZeroDivisionError"):
            client.ask("status")
        assert client.ask("ping") == {"fine": True}


# ---- answers that come later ----------------------------------------------------------------------------------------


def test_a_pending_answer_sends_its_first_line_at_once_and_the_rest_when_it_is_there(tmp_path: Path) -> None:
    pending = Pending(first={"stopping": True})
    with served(tmp_path, lambda request: pending) as subject, subject.client() as client:
        assert client.ask("stop", wait=True) == {"stopping": True}

        subject.call(lambda: pending.complete({"took_s": 1.5}))

        assert client.next_answer() == {"took_s": 1.5}


def test_an_answer_completed_as_the_last_act_of_a_daemon_arrives(tmp_path: Path) -> None:
    pending = Pending()
    report = {"cut_off": ["id"] * 1000}
    with ExitStack() as stack:
        with served(tmp_path, lambda request: pending) as subject:
            client = stack.enter_context(subject.client())
            client._socket.sendall(b'{"verb": "stop"}\n')
            eventually(lambda: subject.seen, "the request arrived")
            subject.call(lambda: pending.complete(report))
        assert client.next_answer() == report


def test_a_client_that_leaves_before_its_answer_does_no_harm(tmp_path: Path) -> None:
    pending = Pending()
    with served(tmp_path, lambda r: pending if r["verb"] == "stop" else {}) as subject:
        with subject.raw() as sock:
            sock.sendall(b'{"verb": "stop"}\n')
            eventually(lambda: subject.seen, "the request arrived")
        assert _does_not_spin(subject)

        subject.call(lambda: pending.complete({}))

        asked(subject)


def test_waiting_for_an_answer_is_not_being_idle(tmp_path: Path) -> None:
    pending = Pending()
    with (
        served(tmp_path, lambda r: pending if r["verb"] == "stop" else {}, idle_s=0.05) as subject,
        subject.raw() as waiting,
        subject.raw() as idle,
    ):
        waiting.sendall(b'{"verb": "stop"}\n')
        assert b"no request came on this connection for" in read_to_end(idle), "an idle client is dropped with a word"

        subject.call(lambda: pending.complete({}))

        assert json.loads(read_line(waiting)) == {"ok": True, "result": {}}


# ---- clients that are no friends ------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(garbage=st.binary(max_size=400))
def test_garbage_is_answered_line_by_line_and_the_next_client_is_served(tmp_path: Path, garbage: bytes) -> None:
    with served(tmp_path, pong) as subject:
        with subject.raw() as sock:
            sock.sendall(garbage)
            sock.shutdown(socket.SHUT_WR)
            answers = read_to_end(sock).splitlines()
        assert len(answers) == garbage.count(b"\n") + (not garbage.endswith(b"\n") and garbage != b"")
        assert all("error" in json.loads(answer) for answer in answers)
        assert asked(subject)


def test_a_request_without_end_is_refused_at_its_limit(tmp_path: Path) -> None:
    with served(tmp_path, pong) as subject:
        with subject.raw() as sock, pytest.raises(OSError):
            while True:
                sock.sendall(b"x" * MAX_REQUEST_BYTES)
        assert asked(subject)


def test_a_request_just_below_the_limit_is_read(tmp_path: Path) -> None:
    padding = b" " * (MAX_REQUEST_BYTES - len(b'{"verb": "ping"}'))
    with served(tmp_path, pong) as subject, subject.raw() as sock:
        sock.sendall(b'{"verb": "ping"}' + padding + b"\n")

        assert json.loads(read_line(sock))["ok"]


def test_a_hundred_idle_connections_do_not_keep_an_operator_out(tmp_path: Path) -> None:
    with served(tmp_path, pong) as subject, ExitStack() as stack:
        idle = [stack.enter_context(subject.raw()) for _ in range(100)]

        assert asked(subject) == {"pong": "ping"}
        dropped = [read_to_end(sock) for sock in idle[: 100 - MAX_CONNECTIONS]]
        assert all(b"this one was idle longest" in words for words in dropped), "the oldest were dropped, with a word"
        assert _timer_fires(subject)


def test_when_all_are_being_served_a_newcomer_is_told_so(tmp_path: Path) -> None:
    with served(tmp_path, lambda request: Pending()) as subject, ExitStack() as stack:
        for count in range(MAX_CONNECTIONS):
            stack.enter_context(subject.raw()).sendall(b'{"verb": "stop"}\n')
            eventually(lambda: subject.seen[count:], "the request arrived")  # noqa: B023  (used up at once)
        with subject.client() as client, pytest.raises(ControlError, match="64 clients are being served already"):
            client.ask("ping")


def test_clients_that_do_not_read_make_room_for_one_that_does(tmp_path: Path) -> None:
    answer = {"status": {"text": "x" * 4_000_000}, "ping": {}}
    with served(tmp_path, lambda r: answer[r["verb"]]) as subject, ExitStack() as stack:
        for count in range(MAX_CONNECTIONS):
            stack.enter_context(subject.raw()).sendall(b'{"verb": "status"}\n')
            eventually(lambda: subject.seen[count:], "the request was obeyed")  # noqa: B023  (used up at once)

        def let_in() -> bool:
            with subject.client() as client, suppress(ControlError):
                return client.ask("ping") == {}
            return False

        eventually(let_in, "an operator gets in")


def test_however_many_ask_at_once_a_pass_of_the_loop_obeys_only_for_milliseconds(tmp_path: Path) -> None:
    turns: list[int] = []
    with served(tmp_path, lambda r: _long_work(lambda: turns.append(subject.turns))) as subject, ExitStack() as stack:
        clients = [stack.enter_context(subject.raw()) for _ in range(15)]
        for sock in clients:
            sock.sendall(b'{"verb": "status"}\n' * 2)
        for sock in clients:
            assert [json.loads(read_line(sock))["ok"] for _ in range(2)] == [True, True]

    assert len(set(turns)) == len(turns) == 30, "one long request a pass"


def test_clients_that_wait_for_their_turn_are_not_idle(tmp_path: Path) -> None:
    with served(tmp_path, lambda r: _long_work(lambda: None)) as subject, ExitStack() as stack:
        waiting = [stack.enter_context(subject.raw()) for _ in range(10)]

        def ask_and_crowd() -> None:
            for sock in waiting:
                sock.sendall(b'{"verb": "status"}\n')
            for _ in range(MAX_CONNECTIONS):
                stack.enter_context(subject.raw())

        subject.call(ask_and_crowd)  # in the loop's thread: newcomers stand before it while the first is being answered

        assert [json.loads(read_line(sock))["ok"] for sock in waiting] == [True] * 10


def test_a_client_that_does_not_read_delays_no_other_and_is_dropped(tmp_path: Path) -> None:
    big = {"text": "x" * 4_000_000}
    answer = {"status": big, "ping": {}}
    with served(tmp_path, lambda r: answer[r["verb"]], idle_s=0.2) as subject, subject.raw() as slow:
        slow.sendall(b'{"verb": "status"}\n' * 50)
        eventually(lambda: subject.seen, "the first request was obeyed")

        slow.recv(1_000_000)  # room for a part of the answer, not for all of it

        assert asked(subject) == {}
        assert len(subject.seen) == 2, "no further request of a client that owes us its reading"
        received = _read_after_hangup(slow)

    assert 0 < len(received) < 4_000_000


def test_a_client_that_leaves_in_the_middle_of_its_answer_is_forgotten(tmp_path: Path) -> None:
    with served(tmp_path, lambda request: {"text": "x" * 4_000_000}) as subject:
        with subject.raw() as sock:
            sock.sendall(b'{"verb": "status"}\n')
            sock.recv(1)
            sock.shutdown(socket.SHUT_RDWR)
            assert _does_not_spin(subject)
        assert _does_not_spin(subject)


def test_a_big_answer_reaches_a_client_that_reads(tmp_path: Path) -> None:
    with served(tmp_path, lambda request: {"text": "x" * 4_000_000}) as subject:
        assert len(asked(subject)["text"]) == 4_000_000


def test_running_out_of_descriptors_pauses_accepting_without_spinning(tmp_path: Path) -> None:
    with served(tmp_path, pong) as subject, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(20.0)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(sock.fileno())
        os.close(free)
        before = subject.turns
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            sock.connect(str(subject.path))
            sock.sendall(b'{"verb": "ping"}\n')
            assert _timer_fires(subject)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

        assert json.loads(read_line(sock))["ok"], "served once there are descriptors again"
        assert subject.turns - before < 50


@needs_root
def test_another_user_is_refused_even_where_the_mode_lets_him_in() -> None:
    with a_public_folder() as folder:
        path, reactor = folder / "control.sock", Reactor()
        server = ControlServer(path, reactor, pong)
        path.chmod(0o666)
        with answer_of_nobody(lambda: _first_line(path, b'{"verb": "stop"}\n')) as reader:
            answer = eventually(lambda: _turned(reactor, reader), "an answer")
        server.close()
        reactor.close()

    assert b"does not take orders from uid 65534" in answer


# ---- the path -------------------------------------------------------------------------------------------------------


def test_only_its_owner_may_connect_and_nothing_is_left_behind(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with served(tmp_path, pong) as subject:
            assert stat.S_IMODE(subject.path.stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert list(tmp_path.iterdir()) == []


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "control.sock"))
    with served(tmp_path, pong) as subject:
        assert asked(subject)


def test_a_socket_with_a_listener_is_refused(tmp_path: Path) -> None:
    with served(tmp_path, pong) as subject:
        _assert_refused(subject.path, "a daemon is listening there already")
        assert asked(subject)


def test_a_file_that_is_no_socket_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("precious")

    _assert_refused(path, "this is not a socket")

    assert path.read_text() == "precious"


@needs_root
def test_a_socket_of_another_user_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(str(path))
    os.chown(path, NOBODY, NOBODY)

    _assert_refused(path, "this socket belongs to uid 65534, this daemon has uid 0")

    assert path.exists()


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    _assert_refused(tmp_path / ("x" * 108), "shorten runtime_dir")


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    _assert_refused(tmp_path / "missing" / "control.sock", "missing.*cannot listen there")


def test_a_socket_that_replaced_ours_is_not_removed_at_the_end(tmp_path: Path) -> None:
    with served(tmp_path, pong) as subject:
        subject.path.unlink()
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(str(subject.path))
    assert (tmp_path / "control.sock").exists()


def _assert_refused(path: Path, says: str) -> None:
    reactor = Reactor()
    try:
        with pytest.raises(StateError, match=says):
            ControlServer(path, reactor, pong)
    finally:
        reactor.close()


def _does_not_spin(subject: Served) -> bool:
    """Whether the loop sleeps while nothing is to be done."""
    before = subject.turns
    return _timer_fires(subject) and subject.turns - before < 20


def _timer_fires(subject: Served) -> bool:
    """Whether the loop's own work goes on: a timer set now is called."""
    fired: list[bool] = []
    subject.reactor.add_callback(lambda: subject.reactor.call_later(0.05, lambda: fired.append(True)))
    eventually(lambda: fired, "a timer of the loop fires")
    return True


def _read_after_hangup(sock: socket.socket) -> bytes:
    """What had arrived when the server gave up; reading earlier would make us a client that reads."""
    poller = select.poll()
    poller.register(sock, select.POLLRDHUP)
    eventually(lambda: poller.poll(0), "the slow client was dropped")
    return read_to_end(sock)


def _first_line(path: Path, request: bytes) -> str:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20.0)
        sock.connect(str(path))
        with suppress(OSError):
            sock.sendall(request)
        return read_line(sock).decode()


def _long_work(seen: Callable[[], object]) -> Result:
    """More than the server's budget for a pass of its loop."""
    seen()
    until_s = time.thread_time() + BUDGET_S * 1.2
    while time.thread_time() < until_s:
        pass
    return {}


def _turned(reactor: Reactor, descriptor: int) -> bytes:
    """What can be read from `descriptor` after a pass of the loop."""
    reactor.poll(0.01)
    return os.read(descriptor, 65536) if select.select([descriptor], [], [], 0)[0] else b""
