"""Handlers of daemons on a real RabbitMQ: what `daemon_handlers` can do, and the jobs of the incidents."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import smtplib
from collections.abc import Callable
from pathlib import Path

import msgspec

from supervisor import Message, Reject, Retry
from tests.support import daemon_handlers
from tests.support.daemon_handlers import mark

_C_KEEPING_THE_GIL = ctypes.PyDLL(None)


def run(message: Message) -> None:
    """Do what `do` says."""
    order = json.loads(message.body)
    deed = _DEEDS.get(order["do"])
    if deed is None:
        daemon_handlers.run(message)
        return
    mark("begun", f"{message.id} {message.attempt} {os.getpid()}")
    deed(message, *order["arguments"])
    mark("done", message.id)


def odd(message: Message) -> None:
    """Write down all that can be seen of a message; fails until it has been dead-lettered and retried."""
    body = hashlib.sha256(message.body).hexdigest()
    headers = sorted(message.headers.items())  # their order is the broker's affair
    properties = msgspec.structs.replace(message.properties, headers=None)
    seen = repr((len(message.body), body, headers, properties, message.exchange, message.routing_key))
    mark("seen", json.dumps([message.id, message.round, message.attempt, seen]))
    if message.round == 1:
        raise ValueError("not in the first round")


def mail(message: Message) -> None:
    """Send a mail through the relay at SMTP_PORT; its recipient is the message's id."""
    mark("begun", f"{message.id} {message.attempt} {os.getpid()}")
    with smtplib.SMTP("127.0.0.1", int(os.environ["SMTP_PORT"])) as relay:
        relay.sendmail("preforkd@localhost", [f"{message.id}@localhost"], message.body)
    mark("done", message.id)


def _hold_the_gil(message: Message, name: str) -> None:
    """A call into C that keeps the interpreter's lock until the FIFO's other end is opened."""
    mark("holding", message.id)
    descriptor = _C_KEEPING_THE_GIL.open(bytes(Path(os.environ["MARKS"]) / name), os.O_RDONLY)
    os.close(descriptor)


def _compute(message: Message, name: str) -> None:
    """Keep a processor busy in C, with the interpreter's lock, a tenth of a second and more at a time."""
    mark("holding", message.id)
    while not (Path(os.environ["MARKS"]) / name).exists():
        sum(range(10_000_000))


def _fail(message: Message) -> None:
    raise ValueError(f"attempt {message.attempt} fails as ordered")


def _reject(message: Message) -> None:
    raise Reject("as ordered")


def _fail_first(message: Message) -> None:
    if message.attempt == 1:
        raise Retry(0.1)


def _retry_after(message: Message, delay_s: float) -> None:
    if message.attempt == 1:
        raise Retry(delay_s)


def _publish(message: Message, queue: str, count: int) -> None:
    for number in range(count):
        message.publish(b"result", routing_key=queue, message_id=f"{message.id}-{number}")


def _back_until(message: Message, round: int) -> None:
    """Put the message itself back into its queue, as it is, until this round."""
    if message.round < round:
        message.publish(message.body, routing_key=message.queue, properties=message.properties)


def _told(message: Message, name: str) -> None:
    """Wait for a word in this FIFO of the daemon's own: `reject`, or any other for a run that is done."""
    if (Path(os.environ["MARKS"]) / name).read_text() == "reject":
        raise Reject("as told")


def _warned(message: Message) -> None:
    """Whether this run was told that it may be a repetition."""
    mark("warned", message.maybe_duplicate)


def _by_attempt(message: Message, *deeds: str) -> None:
    """Another deed at each attempt; beyond the last one: nothing."""
    for deed in deeds[message.attempt - 1 : message.attempt]:
        name, _, argument = deed.partition(" ")
        daemon_handlers._DEEDS[name](*(int(word) for word in argument.split()))


_DEEDS: dict[str, Callable[..., None]] = {
    "hold_the_gil": _hold_the_gil,
    "compute": _compute,
    "fail": _fail,
    "reject": _reject,
    "fail_first": _fail_first,
    "retry_after": _retry_after,
    "publish": _publish,
    "back_until": _back_until,
    "told": _told,
    "warned": _warned,
    "by_attempt": _by_attempt,
}
