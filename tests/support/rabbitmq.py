"""A private RabbitMQ node for tests: own ports, folder, cookie and epmd; it may be killed, stopped, restarted at will.

The node and its epmd are direct children of the test run (no shell, no daemon in between) with PDEATHSIG set, so that
nothing survives, not even a kill -9 of the test run. Questions go through `erl_call`, which answers in milliseconds
where `rabbitmqctl` needs seconds.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pika
import pytest

from tests.support.tools import cannot
from tests.support.waiting import eventually

_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_CTL = Path("/usr/lib/rabbitmq/bin/rabbitmqctl")
_INSTALL = "RabbitMQ is not installed here: .ci/need-rabbitmq"
_START_TIMEOUT_S = 90.0
_CALL_S = 10.0


def require_rabbitmq() -> None:
    """Skip (or fail, under CI=true) where the server is not installed."""
    if _SERVER.exists() and shutil.which("erl_call") and shutil.which("setpriv"):
        return
    cannot(_INSTALL)


def free_port() -> int:
    """A TCP port on 127.0.0.1 that no process listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


_IN_ROOT = """
mkdir -p "$1$2"
mount --bind "$2" "$1$2"
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
exec chroot "$1" "$3"
"""
"""Run in a mount namespace of its own, so that the mounts end with the node. $1: the root, $2: the node's folder."""


_ELECT_LEADERS = (
    "[ra:trigger_election(amqqueue:get_pid(Q)) || Q <- rabbit_amqqueue:list(),"
    " amqqueue:get_type(Q) =:= rabbit_quorum_queue]"
)
"""After a kill -9 under load a quorum queue of RabbitMQ 3.10 was seen to stay without a leader for ever ("leader call -
leader not known"), where its neighbours had elected theirs: nothing published to it was ever confirmed."""


class RabbitNode:
    """One node. `settings` are further lines of rabbitmq.conf, `rabbit` terms for it in advanced.config.

    `root`: run the server that is installed below this directory instead of the machine's own (needs root). `plugins`:
    names of those that are enabled, with commas between them.
    """

    def __init__(
        self, folder: Path, settings: str = "", rabbit: str = "", root: Path | None = None, plugins: str = ""
    ) -> None:
        self.folder = folder
        self._plugins = plugins
        self._root = root
        self.port = free_port()
        self._name = f"preforkd{self.port}@localhost"
        self._cookie = "PREFORKDTESTS"
        (folder / "advanced.config").write_text(f"[{{rabbit, [{rabbit}]}}].\n")
        self._env = self._environment(settings)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    # ---- life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it (again) on the same data and ports, and wait until it speaks AMQP."""
        if "epmd" not in self._processes:
            port = self._env["ERL_EPMD_PORT"]
            self._processes["epmd"] = self._spawn(["epmd", "-port", port, "-address", "127.0.0.1"])
        self._processes["node"] = self._spawn(self._server())
        eventually(self._answers, f"RabbitMQ answers on port {self.port}\n{self.log()}", _START_TIMEOUT_S)
        self.call(_ELECT_LEADERS)

    def keep_queues(self) -> None:
        """Put what was declared just now on disk. RabbitMQ's register of quorum queues is written every half second: a
        kill -9 in between leaves a queue without its past, its arguments and its confirmed messages."""
        self.call("[dets:sync(Table) || Table <- dets:all()]")

    def kill(self) -> None:
        """kill -9: the power cord of a broker."""
        self._end("node")

    def restart(self) -> None:
        """kill -9, then start on the same data."""
        self.kill()
        self.start()

    def stop_signal(self) -> None:
        """SIGSTOP: connections stay open and nothing answers, as with a hung host."""
        process = self._processes["node"]
        process.send_signal(signal.SIGSTOP)
        eventually(lambda: all_threads_stopped(process.pid), "RabbitMQ is stopped")

    def cont(self) -> None:
        """SIGCONT after `stop_signal`."""
        self._processes["node"].send_signal(signal.SIGCONT)

    def restore(self) -> None:
        """Undo what a test may have left: a stopped node, an alarm, a limit."""
        self.cont()
        alarms = (
            f"rabbit_alarm:clear_alarm({{resource_limit, {resource}, node()}})" for resource in ("memory", "disk")
        )
        limits = (
            'rabbit_auth_backend_internal:clear_user_limits(<<"guest">>, <<"all">>, <<"test">>)',
            'rabbit_vhost_limit:clear(<<"/">>, <<"test">>)',
        )
        self.call(", ".join((*alarms, *limits)))

    def close(self) -> None:
        """End everything; nothing is kept."""
        for name in ("node", "epmd"):
            self._end(name)

    # ---- what tests ask it ------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The default user and virtual host."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"

    def ctl(self, *arguments: str) -> str:
        """`rabbitmqctl ARGUMENTS`; takes seconds, so prefer the methods below."""
        command = [str(_CTL), "--quiet", *arguments]
        return subprocess.run(command, env=self._env, check=True, capture_output=True, text=True, timeout=60).stdout

    def call(self, expression: str) -> str:
        """Evaluate Erlang in the node, for example `rabbit_networking:connections()`.

        On a busy machine erl_call may not reach the node at first; nothing has been evaluated then.
        """
        done = eventually(lambda: self._called(expression), f"erl_call reaches the node for {expression}", _CALL_S)
        if not done.stdout.startswith("{ok, "):
            raise AssertionError(f"{expression}: {done.stdout} {done.stderr}")
        return done.stdout.strip().removeprefix("{ok, ").removesuffix("}")

    def _called(self, expression: str) -> subprocess.CompletedProcess[str] | None:
        command = ["erl_call", "-c", self._cookie, "-n", self._name, "-e"]
        done = subprocess.run(
            command, input=f"{expression}.\n", env=self._env, capture_output=True, text=True, timeout=60
        )
        return None if "failed to connect" in done.stderr else done

    def connections(self) -> int:
        """How many client connections are open."""
        return int(self.call("length(rabbit_networking:connections())"))

    def connection_names(self) -> set[str]:
        """The `connection_name` that every client gave itself."""
        names = self.call(
            'lists:flatten(lists:join("|", [binary_to_list(Name) ||'
            " I <- rabbit_networking:connection_info_all([client_properties]),"
            " is_list(proplists:get_value(client_properties, I)),"
            ' {_, _, Name} <- [lists:keyfind(<<"connection_name">>, 1, proplists:get_value(client_properties, I))]]))'
        )
        return set(names.strip('"').split("|")) - {"", "[]"}

    def channels(self) -> int:
        """How many channels are open."""
        return int(self.call("length(rabbit_channel:list())"))

    def close_all_connections(self) -> None:
        """What an operator does before an upgrade: the broker closes every connection."""
        connections = "C <- rabbit_networking:connections()"  # one may be ending by itself: hence the catch
        self.call(f'[catch rabbit_networking:close_connection(C, "closed by a test") || {connections}]')

    def close_connections_named(self, name: str) -> None:
        """Close the connections of clients that call themselves so."""
        self.call(
            f'[rabbit_networking:close_connection(proplists:get_value(pid, I), "closed by a test")'
            " || I <- rabbit_networking:connection_info_all([pid, client_properties]),"
            " is_list(proplists:get_value(client_properties, I)),"
            f' lists:keyfind(<<"connection_name">>, 1, proplists:get_value(client_properties, I))'
            f' =:= {{<<"connection_name">>, longstr, <<"{name}">>}}]'
        )

    def set_memory_alarm(self) -> None:
        """Publishers are blocked from now on."""
        self.set_alarm("memory")

    def clear_memory_alarm(self) -> None:
        """Publishers may go on."""
        self.clear_alarm("memory")

    def set_alarm(self, resource: str) -> None:
        """`memory` or `disk` is said to be short: publishers are blocked from now on."""
        self.call(f"rabbit_alarm:set_alarm({{{{resource_limit, {resource}, node()}}, []}})")

    def clear_alarm(self, resource: str) -> None:
        """The end of `set_alarm`."""
        self.call(f"rabbit_alarm:clear_alarm({{resource_limit, {resource}, node()}})")

    def add_user(self, name: str, password: str, permissions: tuple[str, str, str] | None, vhost: str = "/") -> None:
        """A user; `permissions` are the patterns for configure, write and read in `vhost`, None for no access."""
        self.call(f'rabbit_auth_backend_internal:add_user(<<"{name}">>, <<"{password}">>, <<"test">>)')
        if permissions is not None:
            self.set_permissions(name, permissions, vhost)

    def set_permissions(self, name: str, permissions: tuple[str, str, str], vhost: str = "/") -> None:
        """Other patterns for configure, write and read of a user who is there."""
        patterns = ", ".join(f'<<"{_in_erlang(pattern)}">>' for pattern in permissions)
        self.call(f'rabbit_auth_backend_internal:set_permissions(<<"{name}">>, <<"{vhost}">>, {patterns}, <<"test">>)')

    def add_vhost(self, name: str) -> None:
        """A virtual host in which guest may do everything."""
        self.call(f'rabbit_vhost:add(<<"{name}">>, <<"test">>)')
        self.call(
            f'rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"{name}">>,'
            ' <<".*">>, <<".*">>, <<".*">>, <<"test">>)'
        )

    def unacked(self) -> int:
        """Messages that were delivered to anybody and are not settled yet."""
        listed = "I <- rabbit_channel:info_all([messages_unacknowledged])"
        return int(self.call(f"lists:sum([proplists:get_value(messages_unacknowledged, I, 0) || {listed}])"))

    def depth(self, queue: str) -> int:
        """Messages ready in a queue."""
        with self.channel() as channel:
            count: int = channel.queue_declare(queue, passive=True).method.message_count
            return count

    @contextmanager
    def channel(self) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
        """A channel on a connection of its own."""
        with pika.BlockingConnection(pika.URLParameters(self.url)) as connection:
            yield connection.channel()

    def log(self) -> str:
        """The end of everything the node wrote, for a failed test."""
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(self.folder.glob("*.out")))

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _environment(self, settings: str) -> dict[str, str]:
        plugins, config, cookie = self.folder / "plugins", self.folder / "rabbitmq.conf", self.folder / ".erlang.cookie"
        plugins.write_text(f"[{self._plugins}].\n")
        config.write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nloopback_users = none\n"
            f"disk_free_limit.absolute = 1MB\nlog.console = false\n{settings}\n"
        )
        cookie.write_text(self._cookie)
        cookie.chmod(0o400)
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(free_port()),
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            # With input allowed the start script execs the runtime instead of staying in between.
            "RABBITMQ_ALLOW_INPUT": "true",
            "RABBITMQ_SERVER_START_ARGS": "-noinput",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
        }

    def _server(self) -> list[str]:
        if self._root is None:
            return [str(_SERVER)]
        return ["unshare", "--mount", "sh", "-ec", _IN_ROOT, "sh", str(self._root), str(self.folder), str(_SERVER)]

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{Path(command[0]).name}.out").open("ab") as output:
            return subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                env=self._env,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _answers(self) -> bool:
        if self._processes["node"].poll() is not None:
            raise AssertionError(f"RabbitMQ did not start:\n{self.log()}")
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as sock:
                sock.sendall(b"AMQP\x00\x00\x09\x01")
                return sock.recv(1) == b"\x01"
        except OSError:
            return False

    def _end(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is None:
            return
        with suppress(ProcessLookupError):  # helpers of the runtime share its session, nothing else does
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=20)


def _in_erlang(text: str) -> str:
    return text.replace("\\", "\\\\")


def all_threads_stopped(pid: int) -> bool:
    """Whether a process that was sent SIGSTOP stands still: the signal takes its time."""
    stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(stat[stat.rindex(")") + 2] == "T" for stat in stats)


@contextmanager
def running_node(
    folder: Path, settings: str = "", rabbit: str = "", root: Path | None = None, plugins: str = ""
) -> Iterator[RabbitNode]:
    """A started node that is gone at the end, whatever happens in between. Parameters: as for RabbitNode."""
    require_rabbitmq()
    node = RabbitNode(folder, settings, rabbit, root, plugins)
    try:
        node.start()
        yield node
    finally:
        node.close()


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    """One node for the whole run: use unique queue names, leave no alarm behind."""
    with running_node(tmp_path_factory.mktemp("rabbitmq")) as node:
        yield node


@pytest.fixture(scope="module")
def node_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    """One node for the tests of a module: `lent_rabbitmq` restores it after each."""
    with running_node(tmp_path_factory.mktemp("rabbitmq")) as node:
        yield node


@pytest.fixture
def lent_rabbitmq(node_of_module: RabbitNode) -> Iterator[RabbitNode]:
    """A node for one test after another, which may restart or stop it, set alarms and limits, and change its users.

    Names of queues must be unique. A start costs five seconds of processor time: more than most tests.
    """
    yield node_of_module
    node_of_module.restore()


@pytest.fixture
def own_rabbitmq(tmp_path: Path) -> Iterator[RabbitNode]:
    """A node for one test, which may kill it."""
    folder = tmp_path / "rabbitmq"
    folder.mkdir()
    with running_node(folder) as node:
        yield node
