"""Makes the table of the outbox, with the statements that `preforkd inbox sql --outbox` prints.

Run by `manage.py migrate`, in each database that the project's routers allow (by the app label `preforkd_outbox`).
"""

from __future__ import annotations

from typing import Any

from django.db import NotSupportedError, migrations

from supervisor.outbox.tables import DROP, TABLES


def _make(apps: Any, schema_editor: Any) -> None:
    vendor = schema_editor.connection.vendor
    if vendor not in TABLES:
        raise NotSupportedError(f"preforkd's outbox works with {', '.join(TABLES)}, not with {vendor}")
    for statement in TABLES[vendor].make:
        schema_editor.execute(statement, params=None)


def _drop(apps: Any, schema_editor: Any) -> None:
    schema_editor.execute(DROP, params=None)


class Migration(migrations.Migration):
    """The only migration: it may run where the table is already there."""

    initial = True
    dependencies: list[tuple[str, str]] = []
    atomic = False  # MySQL commits after each statement anyway; it may run again
    operations = [migrations.RunPython(_make, _drop, atomic=False)]
