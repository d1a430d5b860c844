"""How long this host may begin messages, and keep those that it has: by the ledger, where other hosts take over.

Runs in the consumer, once a turn. The ledger of a fleet is renewed by each call that the store answers. While there is
no answer, this host first stops to begin and to take messages, and later gives up its connection, so that the broker
delivers to others what is not settled. Runs under way go on: their ends are held by other means (`worker/limits.py`).
A worker begins nothing late even while this process stands still: what it is sent says until when it may begin.
"""

from __future__ import annotations

from supervisor.brokers.base import Broker
from supervisor.consumer.observe.health import Health
from supervisor.consumer.settlement.settlement import Settlement
from supervisor.ledger.base import Ledger
from supervisor.logs.events import Event

_TEXT = (
    "{waits_for}: nothing is taken or begun here until it does; running messages finish, their outcomes wait on this "
    "host; `preforkd fleet check` says what is wrong with the store"
)


class Tenure:
    """Takes messages while an operator wants it and the ledger allows it; the only one that starts and stops that."""

    def __init__(self, ledger: Ledger, settlement: Settlement, broker: Broker, health: Health) -> None:
        self._ledger = ledger
        self._settlement = settlement
        self._broker = broker
        self._health = health
        self._wanted = True
        self._let_go = False
        self.is_deaf = False

    def want(self, messages: bool) -> None:
        """An operator, or a stop, wants messages to be taken, or not."""
        self._wanted = messages
        if not messages:
            self._stop()
        elif not self.is_deaf:
            self._start()

    def look(self, now_s: float) -> None:
        """See what the ledger allows at `now_s` (CLOCK_BOOTTIME)."""
        if now_s < self._ledger.begins_until_s:
            if self.is_deaf:
                self._go_on()
            return
        if not self.is_deaf:
            self.is_deaf = True
            text = _TEXT.format(waits_for=self._ledger.waits_for)
            self._health.notice(Event.FLEET_DEAF, text, degrades=True)
            self._stop()
        if now_s >= self._ledger.holds_until_s and not self._let_go:
            self._let_go = True
            self._broker.cut()

    def _go_on(self) -> None:
        self.is_deaf = self._let_go = False
        self._health.heal(Event.FLEET_DEAF)
        if self._wanted:
            self._start()

    def _stop(self) -> None:
        """Cancel the subscription and call back what no worker has begun."""
        self._settlement.drain()
        self._broker.cancel()

    def _start(self) -> None:
        self._settlement.resume()
        self._broker.subscribe()
