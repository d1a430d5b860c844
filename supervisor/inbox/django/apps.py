"""The app's configuration, found by Django. Its label is in the names of migrations, so it never changes."""

from __future__ import annotations

from django.apps import AppConfig


class InboxConfig(AppConfig):
    """`supervisor.inbox.django` as an app."""

    name = "supervisor.inbox.django"
    label = "preforkd_inbox"
    verbose_name = "preforkd's inbox"
