"""The handler of the crash tests: notes every step of every run, whole and in order, and does what its message says.

The body is the name of a deed. A faulty deed is done in the first attempt only, so that every message ends.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from contextlib import closing

import msgspec

from supervisor import Message, Reject
from supervisor.inbox import once
from tests.support.history import NOTES, Note, Step

INBOX = "HISTORY_INBOX"
"""The environment variable with the path of an SQLite database: an inbox, and a table `effects` with ids."""

_RUN_S = 0.002


def run(message: Message) -> None:
    """One run of one message."""
    note(message, Step.START)
    try:
        threading.Event().wait(_RUN_S)
        DEEDS[message.text()](message)
    finally:
        note(message, Step.END)


def note(message: Message, step: Step, name: str = "") -> None:
    """Write one step down; `name`: what the message is called, where that is not its id."""
    written = Note(
        step,
        name or message.id,
        message.round,
        message.attempt,
        os.getpid(),
        time.monotonic(),
        time.time(),
        message.maybe_duplicate,
    )
    file = os.open(os.environ[NOTES], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.write(file, msgspec.json.encode(written) + b"\n")
    os.close(file)


def _done(message: Message) -> None:
    note(message, Step.EFFECT)


def _publish(message: Message) -> None:
    note(message, Step.EFFECT)
    message.publish(message.id, routing_key=os.environ["AUDIT_QUEUE"], message_id=message.id)


def _fail(message: Message) -> None:
    if message.attempt == 1:
        raise ValueError("ordered")
    note(message, Step.EFFECT)


def _crash(message: Message) -> None:
    if message.attempt == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    note(message, Step.EFFECT)


def _once(message: Message) -> None:
    with closing(sqlite3.connect(os.environ[INBOX], timeout=20.0, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        with once(message, db) as first:
            if first:
                note(message, Step.EFFECT)
                db.execute("INSERT INTO effects VALUES (?)", (message.id,))
        db.execute("COMMIT")


def _reject(message: Message) -> None:
    raise Reject("ordered")


def _hang(message: Message) -> None:
    while message.attempt == 1:
        signal.pause()
    note(message, Step.EFFECT)


def _stick(message: Message) -> None:
    """Until the master acts: the worker's own timer cannot strike."""
    if message.attempt == 1:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    _hang(message)


DEEDS = {
    "done": _done,
    "publish": _publish,
    "fail": _fail,
    "crash": _crash,
    "once": _once,
    "reject": _reject,
    "hang": _hang,
    "stick": _stick,
}
