"""The handler of daemons whose limits are under test: it extends its time, takes memory, and grows before it begins."""

from __future__ import annotations

import os
import time
from pathlib import Path

from supervisor import Message

_held: list[bytes] = []


def init() -> None:
    """Take as many mebibytes as the file `load` says."""
    load = Path(os.environ["MARKS"]) / "load"
    if load.exists():
        _held.append(b"x" * (int(load.read_text()) << 20))


def run(message: Message) -> None:
    """`eat N`: take N mebibytes; `extend N`: that many seconds more; then wait for ever."""
    order, _, amount = message.text().partition(" ")
    if order == "extend":
        message.extend(float(amount))
    if order == "eat":
        _held.append(b"x" * (int(amount) << 20))
    if order != "return":
        time.sleep(1000)
