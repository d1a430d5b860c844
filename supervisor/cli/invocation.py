"""What every command is given: which configuration is meant, and how to reach the daemon it belongs to."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import click

from supervisor.cli.names import pool_of
from supervisor.config.load import load, load_daemon, load_fleet, load_log, load_queues, load_without_sidecars
from supervisor.config.schema import Config, DaemonConfig, FleetConfig, LogConfig
from supervisor.control import SOCKET_NAME
from supervisor.control.client import ControlClient, NotRunning, OtherRuntimeDir
from supervisor.control.results import Result, Status
from supervisor.errors import ConfigError, ControlError
from supervisor.master.host.pidfile import PID_FILE, STATE_LOCK, Holder, find_holder
from supervisor.quantities import read_seconds

T = TypeVar("T", bound=Result)

LOG_NAME = "preforkd.log"
"""The file in the state directory to which a daemon of `start` logs, if [log] names none."""

POOL_HELD = 150
"""Exit code: the daemon runs, but a pool is held. The first of those that LSB 5.0 leaves to applications."""


class Seconds(click.ParamType):  # type: ignore[type-arg]  # no generic before click 8.4
    """A duration as an argument: `30s`, `5m`, or a number of seconds; in seconds once it is read."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it as the configuration does."""
        with suppress(ValueError):
            value = float(value)
        try:
            return read_seconds(value)
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


SECONDS = Seconds()


class AtLeast(click.ParamType):  # type: ignore[type-arg]  # as above
    """A whole number of `least` or more. `click.IntRange` shows its limit as `x>=0` in the help."""

    name = "number"

    def __init__(self, least: int) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{value!r} is not a whole number", param, ctx)
        if number < self._least:
            self.fail(f"{number} is less than {self._least}", param, ctx)
        return number


class Invocation:
    """One run of the command line. Commands take it as their first argument (`@pass_invocation`)."""

    def __init__(self) -> None:
        self.config_path: str | None = None
        """The value of --config, None where it was not given."""
        self.env_file_path: str | None = None
        """The value of --env-file, None where it was not given."""

    @property
    def env_file(self) -> str | None:
        """The whole path in --env-file; None where it was not given."""
        return str(Path(self.env_file_path).expanduser().absolute()) if self.env_file_path else None

    @cached_property
    def config(self) -> Config:
        """The configuration, read when it is first needed. Raises ConfigError."""
        return load(self.config_path, self.env_file)

    @cached_property
    def messages(self) -> Config:
        """The configuration for a command about messages, without [web] and [hooks]. Raises ConfigError."""
        return load_without_sidecars(self.config_path, self.env_file)

    def daemon(self, *keys: str) -> DaemonConfig:
        """These keys of [daemon], the others at their defaults: a command that finds the daemon needs nothing else of
        the file, and no variable of anything else. Raises ConfigError."""
        return load_daemon(self.config_path, self.env_file, keys)

    def fleet(self, url_file: str | None = None) -> FleetConfig:
        """[fleet], read as `daemon` is; `url_file`: as for `load_fleet`. Raises ConfigError."""
        return load_fleet(self.config_path, self.env_file, url_file)

    @property
    def log(self) -> LogConfig:
        """[log], read as `daemon` is. Raises ConfigError."""
        return load_log(self.config_path, self.env_file)

    @cached_property
    def state_dir(self) -> Path:
        """The daemon's state directory. Raises ConfigError."""
        return Path(self.daemon("state_dir").state_dir)

    @cached_property
    def runtime_dir(self) -> Path:
        """The daemon's runtime directory. Raises ConfigError."""
        return Path(self.daemon("runtime_dir").runtime_dir)

    def queues(self, status: Status | None) -> dict[str, str]:
        """The queue of each pool of the daemon, and of the file where that can be read.

        `status`: the daemon's status object, None where none answers. Raises ConfigError where neither has pools.
        """
        found = {name: pool.queue for name, pool in status.pools.items()} if status else {}
        try:
            return load_queues(self.config_path, self.env_file) | found
        except ConfigError:
            if status is None:
                raise
            return found

    def pool(self, name: str) -> str:
        """The daemon's pool with this name or queue; the name itself where there is none, for the daemon to refuse.

        Raises NotRunning, ControlError, Ambiguous.
        """
        queues = {each: pool.queue for each, pool in self.ask_for(Status, "status").pools.items()}
        return pool_of(name, queues) or name

    def find_pool(self, name: str) -> str | None:
        """The pool of the file, else of the daemon, with this name or queue; None where there is none.

        Raises Ambiguous.
        """
        with suppress(ConfigError):
            if found := pool_of(name, self.queues(None)):
                return found
        status = self.status()
        return pool_of(name, self.queues(status)) if status else None

    def queue(self, name: str) -> str:
        """The queue of the file's pool with this name or queue; the name itself where there is none.

        Raises ConfigError, Ambiguous.
        """
        queues = self.queues(None)
        pool = pool_of(name, queues)
        return queues[pool] if pool else name

    def connect(self) -> ControlClient:
        """A connection to the daemon. Raises NotRunning, ControlError."""
        try:
            return ControlClient(self.runtime_dir)
        except NotRunning as error:
            if (reason := self._why_silent()) is None:
                raise
            raise reason from error

    def ask_for(self, kind: type[T], verb: str, **arguments: Any) -> T:
        """The daemon's answer to one request. Raises NotRunning, ControlError."""
        with self.connect() as daemon:
            return daemon.ask_for(kind, verb, **arguments)

    def status(self) -> Status | None:
        """The daemon's status object; None where none runs, or it does not answer."""
        try:
            return self.ask_for(Status, "status")
        except ControlError:
            return None

    def holder(self, owner: int | None = None) -> Holder | None:
        """The daemon's process by its locks, where its control socket is not there. `owner` as for `find_holder`."""
        by_pid_file = find_holder(self.runtime_dir / PID_FILE, owner)
        return by_pid_file or find_holder(self.state_dir / STATE_LOCK, owner)

    def _why_silent(self) -> NotRunning | None:
        """What to do where a daemon runs, but nothing listens in the runtime directory; None where none runs."""
        holder = self.holder()
        if holder is None:
            return None
        if find_holder(self.runtime_dir / PID_FILE) is None:
            return OtherRuntimeDir(
                f"daemon.runtime_dir = {str(self.runtime_dir)!r}: the daemon of state_dir {self.state_dir} runs (pid "
                f"{holder.pid}) and does not listen there: a runtime_dir cannot change while the daemon runs; restore "
                "the former one, or run `preforkd restart`, which applies the new one"
            )
        path = self.runtime_dir / SOCKET_NAME
        if path.exists() and not path.is_socket():
            advice = "this is no socket: remove it, and the daemon makes its own again within a second"
        else:
            advice = "it is still starting, or its socket was removed and is made again within a second: try again"
        return NotRunning(f"pid {holder.pid} runs, and nothing listens at {path}: {advice}")


pass_invocation = click.make_pass_decorator(Invocation)
