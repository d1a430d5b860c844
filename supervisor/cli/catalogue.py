"""All commands: in which part of the help they stand, what each does in a few words, and where its code is. Data only.

A module is imported when its command is asked for, not before: the process of `run` and `start` becomes the master, and
would keep the other commands' modules in its memory (4 MiB) for as long as the daemon lives. So help and completion
take their texts from here.
"""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """A command. `summary`: a fragment without a full stop; `where`: the module in `supervisor.cli`, and attribute."""

    summary: str
    where: str


SECTIONS: dict[str, dict[str, Entry]] = {
    "Set up": {
        "init": Entry("Write a commented configuration file", "setup:init_command"),
        "check": Entry("Test the configuration, handlers, broker and directories", "check:check_command"),
        "service": Entry("Print a hardened systemd unit", "service:service_command"),
        "inbox": Entry("Print the SQL of the table that `supervisor.inbox` needs", "inbox:inbox_group"),
        "fleet": Entry("Make, check and watch the store that several hosts share", "fleet:fleet_group"),
        "completion": Entry("Print the completion script for a shell", "setup:completion_command"),
        "drill": Entry("Make faults on purpose in a private daemon, and audit them", "drill:drill_command"),
    },
    "Run": {
        "start": Entry("Start the daemon, and return when it is ready", "start:start_command"),
        "run": Entry("Run in the foreground, for a systemd unit or a container", "start:run_command"),
        "stop": Entry("Stop the daemon, and wait for its end", "stop:stop_command"),
        "restart": Entry("Stop the daemon, then start it", "stop:restart_command"),
    },
    "Look": {
        "status": Entry("Show pools, workers, connections and counts of exits", "status:status_command"),
        "top": Entry("Watch pools, workers and exits live, and act with keys", "top:top_command"),
        "why": Entry("Explain what happened to a pool, worker or message", "why:why_command"),
        "exits": Entry("List the last exits of workers and other children", "exits:exits_command"),
        "logs": Entry("Show the daemon's log: a file's, or the journal's", "logs:logs_command"),
        "metrics": Entry("Print metrics in the format of Prometheus", "metrics:metrics_command"),
    },
    "Messages": {
        "publish": Entry("Publish messages to a queue", "publish:publish_command"),
        "dead": Entry("Show, retry or delete dead letters and parked messages", "dead:dead_group"),
        "pending": Entry("Show or drop failed messages that have not come back", "pending:pending_group"),
    },
    "Change a running daemon": {
        "reload": Entry("Load changed configuration and code, worker by worker", "pools:reload_command"),
        "scale": Entry("Change the number of workers in a pool", "scale:scale_command"),
        "pause": Entry("Take no more messages for a pool", "pools:pause_command"),
        "resume": Entry("Take messages for a paused pool again", "pools:resume_command"),
        "retry": Entry("Start the held children of a pool at once", "pools:retry_command"),
    },
}
"""Title in the help → name → command. Both in the order in which people need them."""

COMMANDS: dict[str, Entry] = {name: entry for section in SECTIONS.values() for name, entry in section.items()}
"""The same by name."""
