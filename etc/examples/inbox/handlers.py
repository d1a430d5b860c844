"""Takes the amount of an order from an account, once, wherever a worker dies. See docs/how-to/inbox.md."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

from supervisor import Message, Reject
from supervisor.inbox import once


def charge(message: Message) -> None:
    """The body is JSON: `from`, `amount`, and to try it `dies`: kill the worker after the first commit."""
    order = message.json()
    with closing(sqlite3.connect(os.environ["DATABASE"])) as db, db:  # `db` commits, or rolls back at an exception
        db.execute("BEGIN IMMEDIATE")
        with once(message, db) as first:
            if first:
                take(db, order["from"], order["amount"])
                message.publish(f"{order['from']} was charged", routing_key="audit")
    if order.get("dies") and message.attempt == 1:
        os.kill(os.getpid(), 9)  # the worst moment: the money is taken, and preforkd does not know


def take(db: sqlite3.Connection, name: str, amount: int) -> None:
    """Take an amount from an account. Raises Reject if there is no such account."""
    changed = db.execute("UPDATE accounts SET amount = amount - ? WHERE name = ?", (amount, name)).rowcount
    if not changed:
        raise Reject(f"there is no account of {name}")
