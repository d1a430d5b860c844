"""`manage.py preforkd_relay_outbox --every 1`: publish the rows of the outbox. For a service, or once from a timer.

Each part is a transaction of its own, on SQLite two. Several may run at a time; on SQLite they may publish a row twice,
with the same id. It may be killed at any time: a row whose message is at the broker goes again with the same id.
"""

from __future__ import annotations

import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, close_old_connections, connections, transaction

from supervisor.client import Client
from supervisor.outbox import Relayed, relay
from supervisor.outbox.outbox import relay_in_two

_SHOWN = 3


class Command(BaseCommand):
    """The command, as Django has it."""

    help = "Publish the messages in preforkd's outbox, and delete each one after the broker's confirm."

    def add_arguments(self, parser: CommandParser) -> None:
        """The options on `parser`."""
        parser.add_argument("--url", required=True, action="append", help="Of the broker; may be repeated.")
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help="The alias of the database.")
        parser.add_argument("--limit", type=int, default=100, help="Rows in one transaction.")
        parser.add_argument("--every", type=float, help="Go on, and look for new rows every so many seconds.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Relay once, or for ever. Raises CommandError if messages have failed."""
        with Client(options["url"], name="preforkd_relay_outbox") as client:
            while True:
                published, failed = self._all(client, options["database"], options["limit"])
                if published or options["every"] is None:
                    self.stdout.write(f"{published} message(s) published")
                for error in failed[:_SHOWN]:
                    self.stderr.write(str(error))
                if options["every"] is None:
                    break
                close_old_connections()
                threading.Event().wait(options["every"])
        if failed:
            raise CommandError(f"{len(failed)} message(s) failed and stay in the outbox, the first ones are above")

    def _all(self, client: Client, alias: str, limit: int) -> tuple[int, list[Exception]]:
        """Relay all rows once. Returns how many were published, and the errors of the others."""
        published, failed, after = 0, list[Exception](), 0
        while True:
            done = _some(client, alias, limit, after)
            published += done.published
            failed += [one.error for one in done.failed]
            after = done.last
            if not after:
                return published, failed


def _some(client: Client, alias: str, limit: int, after: int) -> Relayed:
    """Relay the rows of one part."""
    if connections[alias].vendor == "sqlite":
        return relay_in_two(lambda: transaction.atomic(using=alias), client, limit, after=after, using=alias)
    with transaction.atomic(using=alias):
        return relay(None, client, limit, after=after, using=alias)
