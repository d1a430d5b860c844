"""What a daemon tells its service manager through $NOTIFY_SOCKET; here the test is systemd."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from supervisor.master.control.systemd import Notifier, take_notifier
from supervisor.system.clock import monotonic_s
from tests.support.daemon import Daemon, daemon
from tests.support.waiting import eventually

ONE = 'workers = 1\ntimeout = "60s"\nmax_timeout = "60s"\n'


class Service:
    """The other end of the notification socket. `said`: every line, in order."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.said: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)

    def hear(self) -> list[str]:
        """Take in what has been said meanwhile; all lines so far."""
        with suppress(BlockingIOError):
            while True:
                self.said += self._socket.recv(65536).decode().split("\n")
        return self.said

    def heard(self, line: str) -> bool:
        """Whether this has been said."""
        return line in self.hear()

    def status(self) -> str:
        """The last sentence for operators."""
        return next((line[7:] for line in reversed(self.hear()) if line.startswith("STATUS=")), "")

    def count(self, beginning: str) -> int:
        """How many lines begin so."""
        return sum(line.startswith(beginning) for line in self.hear())

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()


@contextmanager
def service(
    directory: Path, monkeypatch: pytest.MonkeyPatch, settings: str = ONE, options: str = "", watchdog_s: float = 0
) -> Iterator[tuple[Daemon, Service]]:
    """A daemon that is about to be started as a service would be."""
    systemd = Service(f"@preforkd-test-{os.getpid()}-{directory.name}")
    monkeypatch.setenv("NOTIFY_SOCKET", systemd.address)
    if watchdog_s:
        monkeypatch.setenv("WATCHDOG_USEC", str(round(watchdog_s * 1e6)))
    try:
        with daemon(directory, settings, options, start=False) as under_test:
            yield under_test, systemd
    finally:
        systemd.close()


def test_ready_comes_with_readiness_and_not_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with service(tmp_path, monkeypatch, 'workers = 1\ninit = "daemon_handlers:wait_for_boot"\n') as (
        under_test,
        systemd,
    ):
        under_test.start(ready=False)
        eventually(lambda: systemd.status().startswith("starting: email: 0/1 workers"), "it says that it starts")
        eventually(under_test.has("consumer.ready"), "the queue is consumed already")
        assert not systemd.heard("READY=1")
        (under_test.marks / "boot").touch()
        eventually(lambda: systemd.heard("READY=1"), "it says that it is ready")
        assert under_test.events("daemon.ready")


def test_the_sentence_counts_workers_messages_and_crashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with service(tmp_path, monkeypatch, watchdog_s=3.0) as (under_test, systemd):
        under_test.start()
        under_test.send("nothing")
        under_test.send("leave_hard", 9)
        expected = r"email: 1/1 workers, 1 done, (1 crash|\d+ crashes)"  # the message is tried again, and crashes again
        eventually(lambda: re.match(expected, systemd.status()), f"it says {expected!r}")


def test_no_process_but_the_master_knows_the_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with service(tmp_path, monkeypatch, watchdog_s=60.0) as (under_test, _systemd):
        under_test.start()
        under_test.send("tell_environment")
        (names,) = eventually(lambda: under_test.marked("environment"), "a handler tells what it finds")
        assert "MARKS" in names.split()
        assert {"NOTIFY_SOCKET", "WATCHDOG_USEC"}.isdisjoint(names.split())
        pool = under_test.pool()
        for pid in (pool["forkserver"]["pid"], pool["consumer"]["pid"]):
            assert b"NOTIFY_SOCKET" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_a_stop_is_announced_and_asks_for_time_while_a_handler_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with service(tmp_path, monkeypatch, watchdog_s=3.0) as (under_test, systemd):
        under_test.start()
        under_test.send("until", "go", message_id="slow")
        eventually(lambda: under_test.marked("begun"), "the message runs")
        assert under_test.process is not None
        under_test.process.send_signal(signal.SIGTERM)
        eventually(lambda: systemd.count("EXTEND_TIMEOUT_USEC=") >= 3, "it asks for more time again and again")
        assert systemd.heard("STOPPING=1")
        assert systemd.status().startswith("stopping: 1 message still running, ")
        (under_test.marks / "go").touch()
        assert under_test.wait() == 0


def test_a_reload_that_fails_at_once_is_told_and_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service of the type notify-reload waits for both after its SIGHUP."""
    with service(tmp_path, monkeypatch) as (under_test, systemd):
        under_test.start()
        eventually(lambda: systemd.heard("READY=1"), "it says that it is ready")
        under_test.configure("nonsense = 1")
        assert under_test.process is not None
        under_test.process.send_signal(signal.SIGHUP)
        eventually(lambda: systemd.heard("RELOADING=1"), "systemd hears of the reload")
        eventually(lambda: systemd.count("READY=1") == 2, "and of its end")
        under_test.configure(ONE)


def test_pings_end_with_a_consumer_that_no_replacement_heals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe in the place of the file that a consumer opens at its start: the next consumer waits there for ever."""
    with service(tmp_path, monkeypatch, watchdog_s=1.5) as (under_test, systemd):
        under_test.start(stale_s=2.0)
        eventually(lambda: systemd.count("WATCHDOG=1") > 2, "pings come")
        dump = under_test.state_dir / "pools" / "email" / "stacks" / "consumer.txt"
        dump.unlink()
        os.mkfifo(dump)
        os.kill(under_test.pool()["consumer"]["pid"], signal.SIGKILL)
        eventually(lambda: len(under_test.exits(kind="consumer", cause="timeout")) >= 2, "two have wedged", 30.0)
        quiet = Silence(systemd)
        eventually(lambda: quiet.lasts(1.5), "systemd would have ended it for want of pings", 30.0)
        assert under_test.status()["state"] == "running", "while the master's own loop turns"


def test_pings_go_on_when_a_replacement_heals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with service(tmp_path, monkeypatch, watchdog_s=1.5) as (under_test, systemd):
        under_test.start(stale_s=2.5)
        quiet = Silence(systemd)
        os.kill(under_test.pool()["consumer"]["pid"], signal.SIGSTOP)
        eventually(lambda: under_test.exits(kind="consumer", cause="timeout"), "it was ended")
        eventually(lambda: under_test.pool()["consumer"]["state"] == "consuming", "and replaced")
        until_s = monotonic_s() + 4.0
        eventually(lambda: not quiet.lasts(1.5) and monotonic_s() > until_s, "pings go on")
        assert quiet.longest_s < 1.5


def test_a_socket_without_a_reader_or_an_owner_never_stops_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with service(tmp_path, monkeypatch, watchdog_s=0.03) as (under_test, _systemd):  # soon full
        under_test.start()
        under_test.send("nothing")
        eventually(lambda: under_test.marked("done"), "it works")
        assert under_test.stop() == 0
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nowhere"))
    under_test.start()
    assert under_test.stop() == 0
    under_test.clean_up()


def test_a_path_and_an_abstract_name_are_both_addresses(tmp_path: Path) -> None:
    for address in (str(tmp_path / "notify"), f"@preforkd-test-{os.getpid()}"):
        systemd = Service(address)
        try:
            assert Notifier(address).send(["READY=1", "STATUS=well"])
            assert systemd.hear() == ["READY=1", "STATUS=well"]
        finally:
            systemd.close()
        assert not Notifier(address).send(["READY=1"]), "no socket is there any more"


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_ours_only_when_it_is_meant_for_us(
    environment: dict[str, str], watchdog_s: float | None
) -> None:
    environment["NOTIFY_SOCKET"] = "@somewhere"
    notifier = take_notifier(environment)

    assert notifier is not None
    assert notifier.watchdog_s == watchdog_s
    assert environment == {}


@pytest.mark.parametrize("address", ["", "vsock:2:1234"])
def test_without_an_address_in_reach_no_message_is_sent(address: str) -> None:
    assert take_notifier({"NOTIFY_SOCKET": address}) is None


class Silence:
    """How long no ping has been heard."""

    def __init__(self, systemd: Service) -> None:
        self._systemd = systemd
        self._count, self._since_s = systemd.count("WATCHDOG=1"), monotonic_s()
        self.longest_s = 0.0

    def lasts(self, seconds: float) -> bool:
        """Whether it has lasted so long by now."""
        count = self._systemd.count("WATCHDOG=1")
        if count != self._count:
            self._count, self._since_s = count, monotonic_s()
        self.longest_s = max(self.longest_s, monotonic_s() - self._since_s)
        return monotonic_s() - self._since_s >= seconds
