"""A real SMTP server that keeps every mail waiting until it is told to go on, as an overloaded relay does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.support.rabbitmq import free_port


class SlowRelay:
    """`port`: where it listens. `waiting`: recipients whose mail is held now. `sent`: of all it took, in order."""

    def __init__(self) -> None:
        self.waiting: list[str] = []
        self.sent: list[str] = []
        self._controller = Controller(self, hostname="127.0.0.1", port=free_port())
        self._quick = asyncio.Event()
        self._controller.start()
        self.port: int = self._controller.port

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Called by aiosmtpd with a whole mail; the client waits for the answer."""
        recipients = [recipient.partition("@")[0] for recipient in envelope.rcpt_tos]
        self.waiting += recipients
        await self._quick.wait()
        self.sent += recipients
        return "250 OK"

    def recover(self) -> None:
        """Take all mails from now on, at once."""
        self._controller.loop.call_soon_threadsafe(self._quick.set)

    def close(self) -> None:
        """Stop listening."""
        self.recover()
        self._controller.stop()


@contextmanager
def running_relay() -> Iterator[SlowRelay]:
    """A relay that is gone at the end."""
    relay = SlowRelay()
    try:
        yield relay
    finally:
        relay.close()
