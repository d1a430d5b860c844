"""What every command is given: which configuration is meant, and how to reach the daemon it belongs to."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import click

from supervisor.config.load import load, load_daemon
from supervisor.config.schema import Config, DaemonConfig
from supervisor.control.client import ControlClient
from supervisor.errors import ConfigError


class Invocation:
    """One run of the command line. Commands take it as their first argument (`@pass_invocation`)."""

    def __init__(self, config_path: str | None) -> None:
        self.config_path = config_path
        """The value of --config, None where it was not given."""

    @cached_property
    def config(self) -> Config:
        """The configuration, read when it is first needed. Raises ConfigError."""
        return load(self.config_path)

    @cached_property
    def daemon(self) -> DaemonConfig:
        """[daemon] alone: all that is needed to find the daemon, whatever else the file lacks. Raises ConfigError."""
        return load_daemon(self.config_path)

    @property
    def state_dir(self) -> Path:
        """The daemon's state directory."""
        return Path(self.daemon.state_dir)

    @property
    def runtime_dir(self) -> Path:
        """The daemon's runtime directory."""
        return Path(self.daemon.runtime_dir)

    def queues(self, status: dict[str, Any] | None) -> dict[str, str]:
        """The queue of each pool of the daemon, and of the file where that can be read.

        `status`: the daemon's status object, None where none answers. Raises ConfigError where neither has pools.
        """
        found = {name: pool["queue"] for name, pool in status["pools"].items()} if status else {}
        try:
            return {name: pool.queue for name, pool in self.config.pools.items()} | found
        except ConfigError:
            if status is None:
                raise
            return found

    def connect(self) -> ControlClient:
        """A connection to the daemon. Raises NotRunning, ControlError."""
        return ControlClient(self.runtime_dir)


pass_invocation = click.make_pass_decorator(Invocation)
