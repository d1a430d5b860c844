"""The drill's private daemon, with its own folder and configuration: started, queried, killed and stopped from outside.

Runs in the command line's process, as the daemon's parent.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from supervisor.brokers import open_admin
from supervisor.brokers.names import dead_queue, parked_queue, retry_queue
from supervisor.config.load import load
from supervisor.control.client import ControlClient, NotRunning
from supervisor.control.results import PoolStatus, Status
from supervisor.drill.handler import EFFECTS, FOLDER
from supervisor.errors import ControlError, PreforkdError
from supervisor.exit_history import HistoryTail, records
from supervisor.system import posix
from supervisor.system.clock import monotonic_s

POOL = "drill"
WORKERS = 4
READY_S = 60.0
_PAUSE_S = 0.05

_CONFIG = """\
[daemon]
state_dir = "state"
runtime_dir = "run"
stop_timeout = "20s"
[log]
format = "json"
file = "daemon.log"
[broker]
url_file = "broker-url"
[pools.{pool}]
queue = "{queue}"
handler = "supervisor.drill.handler:run"
workers = {workers}
timeout = "2s"
max_timeout = "60s"
kill_grace = "1s"
on_crash = "{on_crash}"
max_attempts = 10
retry_delays = ["100ms", "250ms"]
max_memory = 0
kill_memory = "160MiB"
restart_backoff = ["50ms", "1s"]
restart_intensity = [1000, "60s"]
[pools.{pool}.environment]
{folder_variable} = "{folder}"
"""


class Instance:
    """One private daemon in `folder`, on a scratch queue of the broker. `on_crash`: the pool's setting."""

    def __init__(self, folder: Path, broker_url: str, queue: str, on_crash: str) -> None:
        self.folder = folder
        self.queue = queue
        self.pids: list[int] = []
        self._process: subprocess.Popen[bytes] | None = None
        url_file = folder / "broker-url"
        url_file.touch(mode=0o600)
        url_file.write_text(broker_url)
        self._config_path = folder / "preforkd.toml"
        self._config_path.write_text(
            _CONFIG.format(
                pool=POOL, queue=queue, workers=WORKERS, on_crash=on_crash, folder_variable=FOLDER, folder=folder
            )
        )
        self.config = load(str(self._config_path))

    def check_broker(self) -> None:
        """Raise BrokerRefused or BrokerUnavailable if the broker cannot be used; a daemon would wait for it."""
        if not self.config.broker.embedded:
            open_admin(self.config.broker, self.config.daemon.state_dir).close()

    # ---- the daemon -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the daemon and wait until it consumes. Raises PreforkdError with its last output if it does not."""
        command = [sys.executable, "-P", "-m", "supervisor", "--config", str(self._config_path), "run"]
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=functools.partial(_stop_with_parent, os.getpid()),
            )
        self.pids.append(self._process.pid)
        deadline_s = monotonic_s() + READY_S
        while not self._is_ready():
            if self._process.poll() is not None or monotonic_s() > deadline_s:
                raise PreforkdError(f"the drill's daemon did not become ready: {self._last_words()}")

    def kill_master(self) -> None:
        """Kill the master with SIGKILL and start another one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.start()

    def stop(self) -> None:
        """Stop the daemon, and kill it after its stop timeout."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(self.config.daemon.stop_timeout_s + 10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def status(self) -> Status | None:
        """The daemon's status; None while the daemon does not answer."""
        with suppress(ControlError), ControlClient(Path(self.config.daemon.runtime_dir), timeout_s=5.0) as daemon:
            return daemon.status()
        return None

    def pool(self) -> PoolStatus | None:
        """The drill's pool in the status; None while the daemon cannot be asked."""
        status = self.status()
        return status.pools[POOL] if status is not None else None

    def cut_connection(self) -> None:
        """Break the consumer's broker connection. Raises ControlError if the daemon does not answer."""
        with ControlClient(Path(self.config.daemon.runtime_dir)) as daemon:
            daemon.ask("cut_connection", pool=POOL)

    def _is_ready(self) -> bool:
        with suppress(NotRunning):
            status = self.status()
            if status is not None and status.state == "running":
                return True
        wait_a_little()
        return False

    def _last_words(self) -> str:
        lines = (self.folder / "output").read_text(errors="replace").splitlines()
        lines += [str(line.get("message")) for line in self.log() if line.get("level") in ("error", "critical")]
        return " / ".join(lines[-3:]) or "it wrote no output"

    # ---- its records ----------------------------------------------------------------------------------------------

    def count_effects(self) -> int:
        """The number of effects, one a line."""
        path = self.folder / EFFECTS
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def log(self) -> Iterator[dict[str, Any]]:
        """The daemon's log."""
        return self.lines_of("daemon.log")

    def lines_of(self, name: str) -> Iterator[dict[str, Any]]:
        """The objects in a file of JSON lines in the folder, whose last line may be incomplete."""
        path = self.folder / name
        if path.exists():
            with path.open("rb") as file:
                yield from records(file, msgspec.json.Decoder(dict[str, Any]).decode)

    def exits(self) -> Iterator[dict[str, Any]]:
        """The exit history."""
        with HistoryTail(Path(self.config.daemon.state_dir)) as history:
            yield from history.new()

    def ids_in(self, queue: str) -> list[str]:
        """The message ids in a queue, whose messages are requeued."""
        with open_admin(self.config.broker, self.config.daemon.state_dir) as admin:
            depth = admin.depth(queue)
            taken = admin.take(queue, depth.ready) if depth and depth.ready else []
            admin.requeue_all()
        return [delivery.properties.message_id or "" for delivery in taken]

    def delete_queues(self) -> None:
        """Delete the scratch queues."""
        delay_queues = [retry_queue(self.queue, delay_s) for delay_s in self.config.pools[POOL].retry_delays_s]
        with open_admin(self.config.broker, self.config.daemon.state_dir) as admin:
            for queue in (self.queue, dead_queue(self.queue), parked_queue(self.queue), *delay_queues):
                admin.delete_queue(queue)


def wait_a_little() -> None:
    """Pause between two checks of a condition that sends no event."""
    signal.sigtimedwait([], _PAUSE_S)


def kill(pid: int) -> bool:
    """Send SIGKILL; False if the process is gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _stop_with_parent(parent_pid: int) -> None:
    """Stop the daemon when the drill's process ends, even by SIGKILL (prctl(2) PR_SET_PDEATHSIG)."""
    if not posix.die_with_parent(signal.SIGTERM, parent_pid):
        os._exit(0)
