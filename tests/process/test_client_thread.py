"""The client's own thread, on the embedded queue: its errors, callbacks, signals, end; delays of that queue."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from supervisor.brokers.embedded.admin import EmbeddedAdmin
from supervisor.client import Client, ClientFailed, TimedOut, Unroutable
from supervisor.client import client as client_module
from tests.support.source_tree import ROOT
from tests.support.waiting import eventually


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[EmbeddedAdmin]:
    folder = tmp_path / "state"
    (folder / "embedded").mkdir(parents=True)
    with EmbeddedAdmin(str(folder)) as admin:
        admin.ensure_queue("orders")
        yield admin


@pytest.fixture
def client(admin: EmbeddedAdmin, tmp_path: Path) -> Iterator[Client]:
    with Client(f"embedded:{tmp_path / 'state'}") as client:
        yield client


def test_the_embedded_queue_takes_messages_and_delays_and_names_a_missing_queue(
    client: Client, admin: EmbeddedAdmin
) -> None:
    client.publish("orders", b"now", message_id="m1")
    client.send_later("orders", {"n": 1}, delay_s=0.2, message_id="m2")
    (first,) = admin.take("orders", 10)
    assert (first.properties.message_id, first.body) == ("m1", b"now")
    later = eventually(lambda: admin.take("orders", 10), "the delay is over")
    assert json.loads(later[0].body) == {"n": 1}
    with pytest.raises(Unroutable, match=r"no such queue 'other'.*it is not at the broker"):
        client.publish("other", b"")


def test_messages_are_kept_until_the_state_directory_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    with Client(f"embedded:{folder}") as client:
        with pytest.raises(TimedOut, match="start the daemon once"):
            client.publish("orders", b"", timeout_s=0.2)
        kept = client.submit("orders", b"")
        folder.mkdir()
        with EmbeddedAdmin(str(folder)) as admin:
            admin.ensure_queue("orders")
        error = kept.exception(30)
    assert error is None or isinstance(error, Unroutable), "the queue was made a moment after the folder"


def test_an_error_of_the_thread_fails_its_messages_and_the_next_message_starts_another(
    client: Client, admin: EmbeddedAdmin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opened, submitted = client_module.open_producer, threading.Event()

    def fail(*arguments: Any) -> Any:
        monkeypatch.setattr(client_module, "open_producer", opened)
        submitted.wait(20)
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(client_module, "open_producer", fail)
    future = client.submit("orders", b"")
    submitted.set()
    failed = future.exception(30)

    assert isinstance(failed, ClientFailed)
    assert "error of its own (ZeroDivisionError('a defect'))" in str(failed)
    assert not failed.maybe_published
    assert "ZeroDivisionError" in caplog.text
    eventually(lambda: _published(client), "another thread publishes")


def _published(client: Client) -> bool:
    try:
        client.publish("orders", b"")
    except ClientFailed:  # by the thread that is about to end
        return False
    return True


def test_a_callback_may_submit_and_is_told_that_it_must_not_wait(client: Client) -> None:
    results: list[object] = []

    def again(done: Future[str]) -> None:
        results.append(client.submit("orders", b"", message_id="second"))
        try:
            client.publish("orders", b"")
        except ClientFailed as error:
            results.append(error)

    client.submit("orders", b"", message_id="first").add_done_callback(again)
    second, refused = eventually(lambda: results if len(results) == 2 else [], "the callback has run")
    assert isinstance(second, Future)
    assert second.result(30) == "second"
    assert "call submit there" in str(refused)


def test_a_client_that_is_dropped_ends_its_thread(admin: EmbeddedAdmin, tmp_path: Path) -> None:
    client = Client(f"embedded:{tmp_path / 'state'}")
    client.publish("orders", b"")
    ended: Callable[[float], bool] = client._present["sender"].join
    del client

    eventually(lambda: ended(0.1), "the thread has ended")


_SIGNALS = """
import itertools, signal, sys, threading
from supervisor.client import Client, client as module
started = module.Sender
def interrupted(*arguments):
    module.Sender = started
    signal.raise_signal(signal.SIGALRM)  # while the first message starts the thread
    return started(*arguments)
module.Sender = interrupted
client = Client(sys.argv[1])
futures, numbers, armed = [], itertools.count(), True
def submit(*_):
    futures.append(client.submit("orders", b"", message_id=f"handler-{next(numbers)}"))
    signal.setitimer(signal.ITIMER_REAL, 0.002 if armed else 0)
signal.signal(signal.SIGALRM, submit)
for number in range(5000):
    client.submit("orders", b"", message_id=f"main-{number}")
armed = False
signal.setitimer(signal.ITIMER_REAL, 0)
futures[-1].result(30)
assert [thread.name for thread in threading.enumerate()].count("preforkd.client") == 1
assert client.close(30) == []
print(len(futures))
"""


def test_a_signal_handler_may_submit_in_the_middle_of_a_submit(admin: EmbeddedAdmin, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _SIGNALS, f"embedded:{tmp_path / 'state'}"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 0
    ready = admin.depth("orders")
    assert ready is not None
    assert ready.ready == 5000 + int(ran.stdout)


_WAITS_FOR_SIGNALS = """
import os, signal, sys
from supervisor.client import Client
client = Client(sys.argv[1])
client.publish("orders", b"")
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # from here on only the client's thread could take one
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD, signal.SIGRTMIN):
    os.kill(os.getpid(), number)
    client.publish("orders", b"")  # the thread runs, and the signal still waits
    print(signal.sigwait([number]).name)
"""


def test_a_signal_that_all_other_threads_block_is_left_to_the_application(admin: EmbeddedAdmin, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _WAITS_FOR_SIGNALS, f"embedded:{tmp_path / 'state'}"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.split() == ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGCHLD", "SIGRTMIN"]


_FORKED_IN_A_HANDSHAKE = """
import os, socket, sys
from pathlib import Path
from supervisor.client import Client, Tls
def sockets():
    links = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return {link for link in links if link.startswith("socket:")}
listener = socket.create_server(("127.0.0.1", 0))
client = Client(f"amqps://127.0.0.1:{listener.getsockname()[1]}/", tls=Tls(verify=False))
client.submit("orders", b"")
peer, _ = listener.accept()
assert peer.recv(1)  # the begin of TLS, which this peer never answers
theirs = sockets() - {f"socket:[{os.fstat(sock.fileno()).st_ino}]" for sock in (listener, peer)}
assert len(theirs) == 1
if not (pid := os.fork()):
    os._exit(len(sockets() & theirs))
assert sockets() >= theirs
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
client.close(0.0)
"""


def test_a_child_that_is_forked_while_the_client_connects_has_nothing_of_the_connection() -> None:
    command = [sys.executable, "-W", "ignore", "-c", _FORKED_IN_A_HANDSHAKE]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert (ran.returncode, ran.stdout) == (0, "0\n"), ran.stderr


_FORKED_WITHOUT_A_FREE_DESCRIPTOR = """
import os, resource, sys
from supervisor.client import Client
client = Client(sys.argv[1])
client.publish("orders", b"", message_id="parent")
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
if not os.fork():
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    client.publish("orders", b"", message_id="child", timeout_s=20)
    client.close()
    os._exit(0)
resource.setrlimit(resource.RLIMIT_NOFILE, limits)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_a_child_that_cannot_close_what_it_inherits_does_not_use_it(admin: EmbeddedAdmin, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _FORKED_WITHOUT_A_FREE_DESCRIPTOR, f"embedded:{tmp_path / 'state'}"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert (ran.returncode, ran.stdout) == (0, "0\n"), ran.stderr
    assert {one.properties.message_id for one in admin.take("orders", 10)} == {"parent", "child"}


_PATCHES = {
    "gevent": "from gevent import monkey; monkey.patch_all({})",
    "eventlet": "import eventlet; eventlet.monkey_patch({})",
}
_PATCHED = """
import sys
{before}
from supervisor.client import Client, ClientFailed
try:
    client = Client(sys.argv[1])
    {after}
    print(client.publish("orders", b"", message_id="taken"))
except ClientFailed as error:
    print(error)
"""


@pytest.mark.parametrize("library", _PATCHES)
def test_a_process_that_a_library_of_greenlets_has_patched_is_refused_at_once(
    library: str, admin: EmbeddedAdmin, tmp_path: Path
) -> None:
    pytest.importorskip(library)

    def said(before: str = "", after: str = "") -> str:
        code = _PATCHED.format(before=before, after=after)
        command = [sys.executable, "-W", "ignore", "-c", code, f"embedded:{tmp_path / 'state'}"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout

    patch = _PATCHES[library]
    assert said(before=patch.format("")).startswith(f"Client: {library} has replaced threads or epoll")
    assert said(before=patch.format("select=False")).startswith(f"Client: {library} has replaced threads or epoll")
    assert said(after=patch.format("")).startswith(f"publish: {library} has replaced threads or epoll")
    assert said(before=f"import {library}") == "taken\n"
