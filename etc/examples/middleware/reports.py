"""The handler: it finds what its middleware has prepared."""

from __future__ import annotations

from around import tenant

from supervisor import Message


def write(message: Message) -> None:
    """Write a report; its lines name the message without its help."""
    print("report", message.json()["n"], "for", tenant.get())
