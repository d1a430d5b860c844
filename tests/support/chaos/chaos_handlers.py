"""The handler of the chaos rides: takes its time, has its effect in the middle, notes every step. Runs in workers."""

from __future__ import annotations

import time

import msgspec

from supervisor import Message
from tests.support.chaos.plan import Order
from tests.support.history import Step
from tests.support.history_handlers import note

_decode = msgspec.json.Decoder(Order).decode


def run(message: Message) -> None:
    """One run of one message."""
    order = _decode(message.body)
    note(message, Step.START, order.name)
    try:
        time.sleep(order.hold_s / 2)
        if order.fails and message.attempt == 1:
            raise ValueError("ordered")
        note(message, Step.EFFECT, order.name)
        time.sleep(order.hold_s / 2)
    finally:
        note(message, Step.END, order.name)
