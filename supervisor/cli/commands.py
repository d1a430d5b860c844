"""The table of commands: where each one is. It is imported when it is asked for, not before.

The process of `run` and `start` becomes the master: the other commands' modules would stay in its memory (4 MiB) for
as long as the daemon lives, and would delay every other command. Only help and completion load them all.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from importlib import import_module

import click

WHERE: dict[str, str] = {
    "check": "supervisor.cli.check:check_command",
    "completion": "supervisor.cli.completion:completion_command",
    "dead": "supervisor.cli.dead:dead_group",
    "drill": "supervisor.cli.drill:drill_command",
    "exits": "supervisor.cli.exits:exits_command",
    "init": "supervisor.cli.init:init_command",
    "metrics": "supervisor.cli.metrics:metrics_command",
    "pause": "supervisor.cli.pools:pause_command",
    "pending": "supervisor.cli.pending:pending_group",
    "publish": "supervisor.cli.publish:publish_command",
    "reload": "supervisor.cli.reload:reload_command",
    "restart": "supervisor.cli.stop:restart_command",
    "resume": "supervisor.cli.pools:resume_command",
    "retry": "supervisor.cli.pools:retry_command",
    "run": "supervisor.cli.start:run_command",
    "scale": "supervisor.cli.pools:scale_command",
    "service": "supervisor.cli.service:service_command",
    "start": "supervisor.cli.start:start_command",
    "status": "supervisor.cli.status:status_command",
    "stop": "supervisor.cli.stop:stop_command",
    "top": "supervisor.cli.top:top_command",
    "why": "supervisor.cli.why:why_command",
}
"""Name → module and attribute."""


class Commands(MutableMapping[str, click.Command]):
    """What click takes for a group's dictionary of commands: it knows all names, and loads what is looked up."""

    def __init__(self, where: dict[str, str]) -> None:
        self._where = where
        self._loaded: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._loaded:
            module, _, attribute = self._where[name].partition(":")
            self._loaded[name] = getattr(import_module(module), attribute)
        return self._loaded[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._where, **self._loaded})

    def __len__(self) -> int:
        return len({**self._where, **self._loaded})
