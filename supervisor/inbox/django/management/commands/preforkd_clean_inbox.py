"""`manage.py preforkd_clean_inbox --days 30`: delete old rows of the inbox. For a timer; each part is a transaction."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections

from supervisor.inbox import clean

_PART = 10_000


class Command(BaseCommand):
    """The command, as Django has it."""

    help = "Delete rows of preforkd's inbox whose messages cannot come back any more."

    def add_arguments(self, parser: CommandParser) -> None:
        """The options on `parser`."""
        parser.add_argument(
            "--days", type=float, required=True, help="Keep rows that are younger; more than ledger.keep."
        )
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help="The alias of the database.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Delete all rows that are older than `days`."""
        connection, total = connections[options["database"]], 0
        while deleted := clean(connection, timedelta(days=options["days"]), _PART):
            total += deleted
        self.stdout.write(f"{total} rows deleted")
