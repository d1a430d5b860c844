"""A handler for the daemons of a fleet: notes each step of each run; its message says how many seconds it lasts."""

from __future__ import annotations

import threading

from supervisor import Message
from tests.support.history import Step
from tests.support.history_handlers import note


def run(message: Message) -> None:
    """One run of one message, with its effect in the middle."""
    note(message, Step.START)
    lasts_s = float(message.text())
    threading.Event().wait(lasts_s / 2)
    note(message, Step.EFFECT)
    threading.Event().wait(lasts_s / 2)
    note(message, Step.END)
