"""`preforkd inbox`: what an operator does for the inbox of a handler, whose database only user code knows.

It reads no configuration and connects to nothing.
"""

from __future__ import annotations

import click

from supervisor.cli.command import group
from supervisor.inbox.dialects import DIALECTS, script
from supervisor.outbox import tables


@group(
    "inbox",
    ("Make the table of the inbox in PostgreSQL", "preforkd inbox sql --dialect postgresql | psql shop"),
)
def inbox_group() -> None:
    """Prepare a handler's database for `supervisor.inbox`."""


@inbox_group.command(
    "sql",
    examples=(
        ("Make the table in PostgreSQL", "preforkd inbox sql --dialect postgresql | psql shop"),
        ("Make the table in MariaDB or MySQL", "preforkd inbox sql --dialect mysql | mariadb shop"),
        ("Print that of the outbox", "preforkd inbox sql --outbox --dialect sqlite"),
    ),
)
@click.option(
    "--dialect",
    required=True,
    type=click.Choice(list(DIALECTS)),
    metavar="NAME",
    help="postgresql, mysql (also for MariaDB) or sqlite.",
)
@click.option("--outbox", is_flag=True, help="Print that of the outbox (`supervisor.outbox`) instead.")
def sql_command(dialect: str, outbox: bool) -> None:
    """Print the SQL that makes the table of the inbox.

    The script may run again: it keeps the table and its rows.
    """
    click.echo(tables.script(dialect) if outbox else script(DIALECTS[dialect]), nl=False)
