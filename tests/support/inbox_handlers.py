"""The handler of the inbox tests: one effect and one publication in a `once` block, and a death where its message says.

The body is JSON. `deeds`: what each attempt does, such as `kill left` or `raise before`; nothing beyond the list. Or
`seed`: what an attempt does follows from it, the message and the attempt (`drawn`). Places: PLACES, in this order.
`lasts_s`: how long PostgreSQL holds the effect's transaction.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import threading
from functools import cache
from importlib import import_module
from random import Random
from typing import Any

from supervisor import Message
from supervisor.inbox import InboxError, once

PLACES = ("before", "inserted", "effect", "left", "committed")
"""Before `once`; after its insert; after the effect, in the block; after the block, before the commit; after that."""
DATABASES = "INBOX_DATABASES"
"""The variable with the databases as JSON: a list of kind and place; the first is the handler's."""
AUDIT_QUEUE = "audit"

_LATEST_S = 0.004


def import_drivers() -> None:
    """In the forkserver, so that ten thousand workers need not."""
    for kind, _place in json.loads(os.environ.get(DATABASES, "[]")):
        _driver(kind)


def run(message: Message) -> None:
    """One run of one message."""
    order = json.loads(message.body)
    deed, _, place = _deed_of(order, message).partition(" ")
    if place == "anywhere":
        _die_within(float(deed))
    try:
        _use(message, order, deed, place)
    except InboxError:
        if not order.get("swallows"):
            raise


def _use(message: Message, order: dict[str, Any], deed: str, place: str) -> None:
    kind, where = json.loads(os.environ[DATABASES])[1 if order.get("other_at") == message.attempt else 0]
    connection = _connection(kind, json.dumps(where))
    _at("before", deed, place)
    try:
        _begin(connection, kind)
        with once(message, connection) as first:
            _at("inserted", deed, place)
            if first:
                _have_effect(message, connection, kind)
                if "lasts_s" in order:
                    connection.execute("SELECT pg_sleep(%s)", (order["lasts_s"],))
                _at("effect", deed, place)
        _at("left", deed, place)
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    _at("committed", deed, place)


def _have_effect(message: Message, connection: Any, kind: str) -> None:
    nonce = secrets.token_hex(8)
    mark = "?" if kind == "sqlite" else "%s"
    connection.cursor().execute(
        f"INSERT INTO effects (id, round, attempt, nonce) VALUES ({mark}, {mark}, {mark}, {mark})",
        (message.id, message.round, message.attempt, nonce),
    )
    message.publish(nonce, routing_key=AUDIT_QUEUE, message_id=message.id)


def _deed_of(order: dict[str, Any], message: Message) -> str:
    if "seed" in order:
        return drawn(order["seed"], message.id, message.attempt)
    deeds: list[str] = order.get("deeds", [])
    return deeds[message.attempt - 1] if message.attempt <= len(deeds) else ""


def drawn(seed: str, id: str, attempt: int) -> str:
    """What an attempt does by chance: in six of ten it dies, in a third of these anywhere in the worker's own code."""
    chance = Random(f"{seed} {id} {attempt}")
    fate = chance.random()
    if fate < 0.2:
        return f"{chance.random() * _LATEST_S} anywhere"
    if fate < 0.6:
        return f"kill {chance.choice(PLACES)}"
    return f"raise {chance.choice(PLACES)}" if fate < 0.65 else ""


def _at(here: str, deed: str, place: str) -> None:
    if here != place:
        return
    if deed == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise ValueError(f"ordered at {place}")


def _die_within(seconds: float) -> None:
    """kill -9 of this worker by a thread of its own, wherever it is by then: in its handler, or in preforkd's code."""

    def die() -> None:
        threading.Event().wait(seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=die, daemon=True).start()


@cache
def _connection(kind: str, where: str) -> Any:
    place, driver = json.loads(where), _driver(kind)
    if kind == "postgresql":
        return driver.connect(place)
    if kind == "mysql":
        return driver.connect(**place, autocommit=False)
    return driver.connect(place, timeout=30.0, isolation_level=None)


@cache
def _driver(kind: str) -> Any:
    return import_module({"postgresql": "psycopg", "mysql": "pymysql", "sqlite": "sqlite3"}[kind])


def _begin(connection: Any, kind: str) -> None:
    if kind == "sqlite":
        connection.execute("BEGIN IMMEDIATE")
    elif kind == "mysql":
        connection.begin()


import_drivers()
