"""The messages that a client has taken and that have no fate yet: their order, their time limits, what may be sent.

Pure; runs in a client's thread. A message that was lost with its connection is sent again before all later ones. One
whose time limit has passed is told to its caller at once, and is not sent again; it leaves only with its fate.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

from supervisor.client.errors import ClientError, for_programs, told
from supervisor.client.request import name_of
from supervisor.messages.message import Publication
from supervisor.messages.publications import weight_bytes

WINDOW = 1000
"""Most messages on their way without a confirm."""

WINDOW_BYTES = 32 * 1024 * 1024
"""Most bytes of them, but always one message: they are held a second time in the connection's buffer."""


class Item:
    """One message, and the future of its fate.

    `due_s`: until when it must be confirmed (CLOCK_MONOTONIC); None: there is no limit. `waited_for`: a caller waits
    for the future, and is told by it. `sent`: how often it was handed to the broker's connection.
    """

    __slots__ = (
        *("publication", "delay_s", "limit_s", "waited_for", "future"),
        *("size_bytes", "due_s", "token", "sent", "told"),
    )

    def __init__(self, publication: Publication, delay_s: float, limit_s: float | None, waited_for: bool) -> None:
        self.publication = publication
        self.delay_s = delay_s
        self.limit_s = limit_s
        self.waited_for = waited_for
        self.future: Future[str] = Future()
        self.future.set_running_or_notify_cancel()  # from here on it cannot be cancelled: the message stays
        self.size_bytes = weight_bytes(publication)
        self.due_s: float | None = None
        self.token = 0
        self.sent = 0
        self.told = False

    @property
    def message_id(self) -> str:
        """The id, which every message has."""
        return str(self.publication.properties.message_id)

    def admit(self, token: int, now_s: float) -> None:
        """The client has taken it, under this `token`. `now_s`: CLOCK_MONOTONIC."""
        self.token = token
        self.due_s = None if self.limit_s is None else now_s + self.limit_s

    def handed(self) -> None:
        """It was handed to the connection."""
        self.sent += 1

    def confirm(self) -> None:
        """Tell its caller that the broker has it."""
        if not self.told:
            self.told = True
            self.future.set_result(self.message_id)

    def fail(self, kind: type[ClientError], reason: str, absent: bool = False) -> None:
        """Tell its caller why it has no confirm. `absent`: what was sent last is certainly in no queue."""
        if not self.told:
            self.told = True
            maybe = self.sent > 1 or (self.sent == 1 and not absent)
            text = told(name_of(self.publication), reason, self.message_id, maybe)
            self.future.set_exception(kind(text, self.message_id, maybe, for_programs(reason)))


class Backlog:
    """All items without a fate. `release` is called with each that leaves."""

    def __init__(self, release: Callable[[Item], object]) -> None:
        self._release = release
        self._items: dict[int, Item] = {}
        self._waiting: OrderedDict[int, Item] = OrderedDict()
        self._again: list[int] = []
        self._due: list[tuple[float, int]] = []
        self._under_way: set[int] = set()
        self._under_way_bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: Item) -> None:
        """The next message in order."""
        self._items[item.token] = item
        self._waiting[item.token] = item
        if item.due_s is not None:
            heapq.heappush(self._due, (item.due_s, item.token))

    def next_to_send(self) -> Item | None:
        """The next message to hand to the connection; None while there is none, or the window is full."""
        item = next(iter(self._waiting.values()), None)
        if item is None or not self._has_room(item):
            return None
        del self._waiting[item.token]
        item.handed()
        self._under_way.add(item.token)
        self._under_way_bytes += item.size_bytes
        return item

    def confirmed(self, token: int) -> None:
        """The broker has the message `token`."""
        if (item := self._ended(token)) is not None:
            self._drop(item)
            item.confirm()

    def unpublished(self, token: int, lost: bool) -> Item | None:
        """The message `token` was not confirmed, and its item where it has failed. One that is `lost` is sent again."""
        item = self._ended(token)
        if item is None:
            return None
        if lost and not item.told:
            self._again.append(item.token)
            return None
        self._drop(item)
        return item

    def send_again(self) -> None:
        """Put the lost messages before all others, in their order: called once their connection has ended."""
        for token in sorted(self._again, reverse=True):
            if (item := self._items.get(token)) is not None and not item.told:
                self._waiting[token] = item
                self._waiting.move_to_end(token, last=False)
        self._again.clear()

    def overdue(self, now_s: float) -> list[Item]:
        """Give up the messages whose time limit has passed; returns them. `now_s`: CLOCK_MONOTONIC."""
        found = []
        while self._due and self._due[0][0] <= now_s:
            item = self._items.get(heapq.heappop(self._due)[1])
            if item is not None and not item.told:
                found.append(item)
                self._leave_unless_under_way(item)
        return found

    @property
    def next_due_s(self) -> float | None:
        """When the next time limit passes (CLOCK_MONOTONIC); None without one."""
        while self._due and self._due[0][1] not in self._items:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    @property
    def untold(self) -> list[Item]:
        """The messages whose callers know nothing yet, in order."""
        return [item for item in self._items.values() if not item.told]

    def forget_untold(self) -> list[Item]:
        """Give up all messages whose callers know nothing yet; returns them, in order."""
        untold = self.untold
        for item in untold:
            self._leave_unless_under_way(item)
        return untold

    def _leave_unless_under_way(self, item: Item) -> None:
        """A message that is under way leaves with its fate."""
        if item.token not in self._under_way:
            self._waiting.pop(item.token, None)
            self._drop(item)

    def _has_room(self, item: Item) -> bool:
        fits = self._under_way_bytes + item.size_bytes <= WINDOW_BYTES
        return not self._under_way or (len(self._under_way) < WINDOW and fits)

    def _ended(self, token: int) -> Item | None:
        """The item of a publication that is under way no more."""
        if token not in self._under_way:
            return None
        self._under_way.remove(token)
        item = self._items[token]
        self._under_way_bytes -= item.size_bytes
        return item

    def _drop(self, item: Item) -> None:
        if self._items.pop(item.token, None) is not None:
            self._release(item)
