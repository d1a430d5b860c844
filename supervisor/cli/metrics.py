"""`preforkd metrics`: the daemon's metrics as Prometheus reads them; for node_exporter's textfile collector, or a look.

prometheus_client is an extra, so it is imported when it is needed, and its absence has an answer.
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from supervisor.cli.command import command
from supervisor.cli.invocation import Invocation, pass_invocation
from supervisor.control.results import Status
from supervisor.errors import PreforkdError
from supervisor.extras import install_hint


@command(
    "metrics",
    ("A look at all metrics", "preforkd metrics"),
    ("For node_exporter, from a timer", "preforkd metrics --file /var/lib/node/preforkd.prom"),
)
@click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file instead, in one step; for the textfile collector of node_exporter: NAME.prom.",
)
@pass_invocation
def metrics_command(invocation: Invocation, path: Path | None) -> int:
    """Print metrics in the format of Prometheus.

    docs/metrics.md explains them. The web page serves the same at /metrics.
    """
    try:
        from supervisor.metrics import render  # see the head of this file
    except ImportError as error:
        raise PreforkdError(
            f"metrics need a package that is not installed here ({error.name}): {install_hint('metrics')}"
        ) from error
    text = render(invocation.ask_for(Status, "status"))
    if path is None:
        click.echo(text, nl=False)
    else:
        _replace(path, text)
    return 0


def _replace(path: Path, text: bytes) -> None:
    """In one step: who reads the file meanwhile has the former one, or this one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(text)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise PreforkdError(f"{path}: cannot be written: {error.strerror}") from error
