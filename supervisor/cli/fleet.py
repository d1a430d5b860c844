"""`preforkd fleet`: the store of a fleet: make it, upgrade it, look at it, and declare a host lost.

Each command asks PostgreSQL itself; no daemon need run. psycopg is imported by a command that is run, not by its help.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from supervisor.cli.command import group
from supervisor.cli.console import ask_first, print_line, print_table, shown
from supervisor.cli.findings import Finding, Level
from supervisor.cli.invocation import Invocation, pass_invocation
from supervisor.errors import ConfigError, PreforkdError, Problem
from supervisor.extras import install_hint
from supervisor.quantities import show_seconds

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from supervisor.fleet.admin import Holder, Installed, Store

_COLUMNS = ("HOST", "POOL", "QUEUE", "STATE", ">LAST CALL", ">IN HAND", ">PENDING", "VERSION")
_STATES = {"l": "live", "f": "ended", "g": "gone"}

_ROLE = click.option("--role", default="", metavar="NAME", help="Give this role what daemons need.")
_URL_FILE = click.option(
    "--url-file",
    metavar="FILE",
    type=click.Path(),
    help="A file with a URL of the owner, instead of url_file in [fleet].",
)


@group(
    "fleet",
    ("Make the schema, with the rights of its owner", "preforkd fleet init --url-file owner-url --role preforkd"),
    ("See whether this host can use it", "preforkd fleet check"),
    ("Give the messages of a lost host to the others", "preforkd fleet forget HOST --url-file owner-url"),
)
def fleet_group() -> None:
    """Make, check and watch the store that the daemons of several hosts share."""


@fleet_group.command(
    "init",
    examples=(("With the rights of its owner", "preforkd fleet init --url-file owner-url --role preforkd"),),
)
@_ROLE
@_URL_FILE
@pass_invocation
def init_command(invocation: Invocation, role: str, url_file: str | None) -> int:
    """Make the schema in the database, and give the role of the daemons its rights.

    A second call changes nothing. The database must be there.
    """
    with _store(invocation, url_file) as store:
        made = store.install(invocation.fleet(_whole(url_file)).name, role)
    _tell(made, role)
    return 0


@fleet_group.command(
    "upgrade", examples=(("After an update of preforkd", "preforkd fleet upgrade --url-file owner-url"),)
)
@_ROLE
@_URL_FILE
@pass_invocation
def upgrade_command(invocation: Invocation, role: str, url_file: str | None) -> int:
    """Bring the schema to the version of this preforkd. Daemons of the former version go on working."""
    from supervisor.fleet.admin import StoreError

    with _store(invocation, url_file) as store:
        if not store.version():
            raise StoreError("the database has no schema preforkd: `preforkd fleet init` makes it")
        made = store.install(invocation.fleet(_whole(url_file)).name, role)
    _tell(made, role)
    return 0


@fleet_group.command("check", examples=(("See whether this host can use the store", "preforkd fleet check"),))
@pass_invocation
def check_command(invocation: Invocation) -> int:
    """Test the store with the rights of the daemon: reachable, writable, version, rights, settings of the other hosts.

    Exit code: 0 no error, 78 a fault of the configuration, 1 another fault.
    """
    config = invocation.config
    if config.fleet is None:
        raise ConfigError(config.source, [Problem("fleet", "", "there is no such section", "docs/fleet.md")])
    _refuse_without_extra()
    from supervisor.cli.fleet_check import about_fleet

    found = list(about_fleet(config, config.fleet))
    for finding in found:
        print_line(_line(finding))
    return max((finding.status for finding in found if finding.level is Level.ERROR), default=0)


@fleet_group.command("status", examples=(("Who is there", "preforkd fleet status"),))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@_URL_FILE
@pass_invocation
def status_command(invocation: Invocation, as_json: bool, url_file: str | None) -> int:
    """Show the pools of all hosts, and how many messages each has in hand."""
    with _store(invocation, url_file) as store:
        holders = store.holders()
    if as_json:
        for holder in holders:
            click.echo(json.dumps(_facts(holder)))
    elif holders:
        print_table(_COLUMNS, map(_row, holders))
    else:
        print_line("no pool of any host is there, and no message is in hand")
    return 0


@fleet_group.command(
    "forget",
    examples=(("A host that does not come back", "preforkd fleet forget HOST --url-file owner-url"),),
)
@click.argument("host")
@click.option("--yes", is_flag=True, help="Do not ask before.")
@click.option("--force", is_flag=True, help="Also a host that has called within its lease.")
@_URL_FILE
@pass_invocation
def forget_command(invocation: Invocation, host: str, yes: bool, force: bool, url_file: str | None) -> int:
    """Declare a host lost: the other hosts decide about the messages that it had in hand.

    Only for a host whose workers have ended for certain.
    """
    from supervisor.fleet.admin import StoreError

    with _store(invocation, url_file) as store:
        found = [holder for holder in store.holders() if holder.host == host and not holder.lost]
        if not found:
            raise StoreError(f"no pool of host {shown(host)} is live; `preforkd fleet status` shows all hosts")
        alive = [holder for holder in found if holder.alive]
        if alive and not force:
            raise StoreError(_refusal(host, alive[0]))
        if not yes:
            ask_first(_question(host, found), "nothing was changed")
        ended = store.forget(host)
    rows = sum(each.open_rows for each in ended)
    print_line(
        f"host {shown(host)} is declared lost: {len(ended)} pool(s), {rows} message(s) in hand; these are in doubt "
        "once another host gets them, and on_crash decides"
    )
    return 0


# ---- inside ---------------------------------------------------------------------------------------------------------


def _store(invocation: Invocation, url_file: str | None) -> AbstractContextManager[Store]:
    fleet = invocation.fleet(_whole(url_file))
    _refuse_without_extra()
    from supervisor.fleet.address import address
    from supervisor.fleet.admin import opened

    try:
        address(fleet.url)
    except ValueError as error:
        raise ConfigError(url_file or "fleet.url_file", [Problem("URL", "", str(error))]) from None
    return opened(fleet.url)


def _whole(url_file: str | None) -> str | None:
    return str(Path(url_file).expanduser().absolute()) if url_file else None


def _refuse_without_extra() -> None:
    try:
        import supervisor.fleet.address  # noqa: F401
    except ImportError as error:
        raise PreforkdError(f"[fleet] needs an extra of preforkd ({error}): {install_hint('fleet')}") from None


def _tell(made: Installed, role: str) -> None:
    if made.before == made.now:
        print_line(f"the schema preforkd is there, version {made.now}; its owner is {made.owner}")
    elif made.before:
        print_line(f"the schema preforkd now has version {made.now} (it had {made.before}); its owner is {made.owner}")
    else:
        print_line(f"the schema preforkd is made, version {made.now}; its owner is {made.owner}")
    if made.roles:
        print_line(f"daemons may use it as {', '.join(made.roles)}: functions only, no table")
    elif not role:
        print_line(
            "no role but the owner may use it. Make one for the daemons, and name its URL in fleet.url_file:\n"
            "  CREATE ROLE preforkd LOGIN PASSWORD '…'\n"
            "  preforkd fleet init --role preforkd --url-file FILE"
        )


def _line(finding: Finding) -> str:
    return f"{finding.level:7} {finding.subject}: {finding.text}"


def _row(holder: Holder) -> tuple[str, ...]:
    pending = holder.retry_pending + holder.dead_pending + holder.parked_pending
    called = f"{show_seconds(round(holder.idle_s))} ago"
    return (
        *(holder.host, holder.pool, holder.queue, _shown_state(holder)),
        *(called, str(holder.claimed), str(pending), holder.version),
    )


def _state(holder: Holder) -> str:
    if holder.lost:
        return "lost"
    if holder.state == "f" and holder.fenced_by:
        return "fenced"
    return "silent" if holder.state == "l" and not holder.alive else _STATES.get(holder.state, holder.state)


def _shown_state(holder: Holder) -> str:
    by = holder.lost_by if holder.lost else holder.fenced_by
    return f"{_state(holder)} by {by}" if by else _state(holder)


def _facts(holder: Holder) -> dict[str, object]:
    facts: dict[str, object] = msgspec.to_builtins(holder)
    return facts | {"state": _state(holder)}


def _refusal(host: str, holder: Holder) -> str:
    return (
        f"host {shown(host)} has called {show_seconds(round(holder.idle_s))} ago (pool {shown(holder.pool)}), within "
        f"its lease of {show_seconds(holder.lease_s)}: it lives. Stop its daemon instead. With --force its messages go "
        "to other hosts while its workers may still run them: they may run twice at a time"
    )


def _question(host: str, found: list[Holder]) -> str:
    rows = sum(holder.open_rows for holder in found)
    return (
        f"Declare {len(found)} pool(s) of host {shown(host)} lost, with {rows} message(s) in hand? If workers still "
        "run there, these messages may run twice"
    )
