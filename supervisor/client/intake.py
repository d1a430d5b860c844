"""Where the program's threads hand their messages to the client's thread: bounded, in order, and closed once.

Runs in user processes, in any thread and in signal handlers: the lock is held for a few lines that never wait. It must
never be touched in a fork of the process: another thread may have held the lock at the fork.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

from supervisor.client.backlog import Item
from supervisor.client.errors import BufferFull, ClientClosed, ClientError, LoginRefused, told
from supervisor.client.request import name_of
from supervisor.quantities import show_bytes
from supervisor.system.clock import monotonic_s


class Intake:
    """Takes at most `max_messages` and `max_bytes` that are not confirmed. `wake` is called after each message."""

    def __init__(self, max_messages: int, max_bytes: int, wake: Callable[[], object]) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._wake = wake
        self._changed = threading.Condition(threading.RLock())
        self._fresh: list[Item] = []
        self._held = self._held_bytes = 0
        self._tokens = itertools.count(1)
        self._trouble = ""
        self._refusal = ""
        self._closed = self._over = False

    def put(self, item: Item, wait_s: float) -> bool:
        """Take a message, and wait for room at most `wait_s`; False if the client's thread has ended.

        Raises BufferFull, ClientClosed, and LoginRefused while the broker refuses the client.
        """
        until_s = monotonic_s() + wait_s
        with self._changed:
            while self._open_for(item) and not self._has_room(item):
                left_s = until_s - monotonic_s()
                if left_s <= 0 or not self._changed.wait(left_s):
                    raise _error(BufferFull, item, self._full())
            if self._over:
                return False
            self._held += 1
            self._held_bytes += item.size_bytes
            item.admit(next(self._tokens), monotonic_s())
            self._fresh.append(item)
            self._wake()
        return True

    def take(self) -> list[Item]:
        """The messages since the last call, in order."""
        with self._changed:
            fresh, self._fresh = self._fresh, []
            return fresh

    def release(self, item: Item) -> None:
        """A message has left the client: there is room for others."""
        with self._changed:
            self._held -= 1
            self._held_bytes -= item.size_bytes
            self._changed.notify_all()

    def tell(self, trouble: str, refusal: str = "") -> None:
        """Why no message goes to the broker now, "" if they go. `refusal`: why the broker refuses the client, or ""."""
        with self._changed:
            self._trouble, self._refusal = trouble, refusal
            self._changed.notify_all()

    def close(self, then: Callable[[], object] = lambda: None) -> None:
        """Take no more messages, those that were taken stay; and call `then()`, before the client's thread is woken."""
        with self._changed:
            self._closed = True
            then()
            self._changed.notify_all()
            if not self._over:
                self._wake()

    def end(self, last: Callable[[], object]) -> list[Item]:
        """The client's thread ends: call `last()`, wake it no more. Returns messages that it has not taken yet."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
            last()
            return self.take()

    @property
    def is_over(self) -> bool:
        """Whether the client's thread has ended. Takes no lock."""
        return self._over

    def _open_for(self, item: Item) -> bool:
        if self._closed:
            raise _error(ClientClosed, item, "the client is closed, and takes no messages")
        if self._refusal:
            raise _error(LoginRefused, item, f"the broker refuses the client: {self._refusal}")
        return not self._over

    def _has_room(self, item: Item) -> bool:
        fits = self._held < self._max_messages and self._held_bytes + item.size_bytes <= self._max_bytes
        return fits or not self._held

    def _full(self) -> str:
        held = f"the client holds {self._held} unconfirmed messages of {show_bytes(self._held_bytes)} already"
        bound = f"(max_messages = {self._max_messages}, max_bytes = {show_bytes(self._max_bytes)})"
        return f"{held} {bound}: {self._trouble or 'the program is faster than the broker'}"


def _error(kind: type[ClientError], item: Item, reason: str) -> ClientError:
    return kind(told(name_of(item.publication), reason, item.message_id, False), item.message_id, False, reason)
