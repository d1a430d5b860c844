"""The app's configuration, found by Django. Its label is in the names of migrations, so it never changes."""

from __future__ import annotations

from django.apps import AppConfig


class OutboxConfig(AppConfig):
    """`supervisor.outbox.django` as an app."""

    name = "supervisor.outbox.django"
    label = "preforkd_outbox"
    verbose_name = "preforkd's outbox"
