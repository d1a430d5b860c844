"""Makes the table of the inbox and its first row, with the statements that `preforkd inbox sql` prints.

Run by `manage.py migrate`, in each database that the project's routers allow (by the app label `preforkd_inbox`).
"""

from __future__ import annotations

from typing import Any

from django.db import NotSupportedError, migrations

from supervisor.inbox.dialects import DIALECTS, Dialect


def _make(apps: Any, schema_editor: Any) -> None:
    for statement in _dialect(schema_editor).make:
        schema_editor.execute(statement, params=None)


def _drop(apps: Any, schema_editor: Any) -> None:
    schema_editor.execute(_dialect(schema_editor).drop, params=None)


def _dialect(schema_editor: Any) -> Dialect:
    vendor = schema_editor.connection.vendor
    if vendor not in DIALECTS:
        raise NotSupportedError(f"preforkd's inbox works with {', '.join(DIALECTS)}, not with {vendor}")
    return DIALECTS[vendor]


class Migration(migrations.Migration):
    """The only migration: it may run where the table is already there."""

    initial = True
    dependencies: list[tuple[str, str]] = []
    atomic = False  # MySQL commits after each statement anyway; each may run again
    operations = [migrations.RunPython(_make, _drop, atomic=False)]
