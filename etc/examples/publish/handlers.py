"""The handler of the orders: writes each into the file ORDERS. A pool names it as `handler = "handlers:ship"`."""

from __future__ import annotations

import os
from pathlib import Path

from supervisor import Message


def ship(message: Message) -> None:
    """Note the order's number, the id of its message and the attempt."""
    with Path(os.environ["ORDERS"]).open("a") as orders:
        orders.write(f"{message.json()['number']} {message.id} {message.attempt}\n")
