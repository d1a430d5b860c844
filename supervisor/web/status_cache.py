"""This process's copy of the daemon's status, shared by all readers.

With any number of readers one thread asks the daemon at most once a second, one request at a time. Without readers it
asks nothing. A reader that is too slow for the exits is disconnected and has to connect again; the others do not wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from msgspec.structs import replace

from supervisor.control.client import ControlClient
from supervisor.control.protocol import typed
from supervisor.control.results import PoolStatus, Status
from supervisor.errors import ControlError, StateError, no_such_pool
from supervisor.system.clock import monotonic_s, rfc3339, wall_s
from supervisor.web.answers import ApiError, encoded
from supervisor.web.exits import Fresh, RecentExits

PERIOD_S = 1.0
TIMEOUT_S = 5.0
MAX_WAITING = 500


class QueryResult(msgspec.Struct, frozen=True):
    """The result of one query: the status, or the reason why there is none, and the exits since the last query."""

    status: Status | None
    encoded: bytes
    silence: str
    exits: Fresh
    no_exits: str


class EventReader:
    """One reader of events. `lost`: it was too slow, and has to connect again."""

    def __init__(self) -> None:
        self.lost = False
        self._exits: deque[bytes] = deque()
        self._latest: bytes | None = None
        self._something = asyncio.Event()

    def tell_state(self, frame: bytes) -> None:
        """Queue the newest state as an event `frame`; it replaces one that was not taken."""
        self._latest = frame
        self._something.set()

    def tell_exit(self, frame: bytes) -> None:
        """Queue an exit as an event `frame`, up to a limit."""
        self.lost = self.lost or len(self._exits) >= MAX_WAITING
        if not self.lost:
            self._exits.append(frame)
        self._something.set()

    def end(self) -> None:
        """End the stream."""
        self.lost = True
        self._something.set()

    async def take(self) -> bytes:
        """Wait for events, and take all."""
        await self._something.wait()
        self._something.clear()
        frames, self._latest = [*self._exits, self._latest or b""], None
        self._exits.clear()
        return b"".join(frames)


class StatusCache:
    """The status cache of this process; all methods but `_look` run in the loop."""

    def __init__(self, runtime_dir: Path, state_dir: Path) -> None:
        self.exits = RecentExits(state_dir)
        self._runtime_dir = runtime_dir
        self._thread = ThreadPoolExecutor(1, "mirror")
        self._looking: asyncio.Task[QueryResult] | None = None
        self._answer: QueryResult | None = None
        self._looked_s = float("-inf")
        self._silent_since = ""
        self._still: Status | None = None
        self._state_frame = b""
        self._caught_up = False  # exits before the first listener are no events
        self._listeners: set[EventReader] = set()
        self._early = asyncio.Event()
        self._following: asyncio.Task[None] | None = None

    # ---- looking --------------------------------------------------------------------------------------------------

    async def status(self) -> tuple[Status, bytes]:
        """The status and its JSON, at most `PERIOD_S` old. Raises ApiError 503 if the daemon is silent."""
        answer = await self._fresh()
        if answer.status is None:
            raise ApiError(503, answer.silence, since=self._silent_since)
        return answer.status, answer.encoded

    async def history(self) -> RecentExits:
        """The exits up to now. Raises ApiError 503 if their files cannot be read."""
        answer = await self._fresh()
        if answer.no_exits:
            raise ApiError(503, answer.no_exits)
        return self.exits

    async def pool(self, name: str) -> PoolStatus:
        """One pool of the status. Raises ApiError: 404 for an unknown name, 503 if the daemon is silent."""
        status, _encoded = await self.status()
        if name not in status.pools:
            raise ApiError(404, no_such_pool(name, {each: pool.queue for each, pool in status.pools.items()}))
        return status.pools[name]

    def expire(self) -> None:
        """Expire the copy after an action: readers and listeners get the new state."""
        self._looked_s = float("-inf")
        self._early.set()

    # ---- listening ------------------------------------------------------------------------------------------------

    @property
    def listeners(self) -> int:
        """The number of listeners."""
        return len(self._listeners)

    @contextmanager
    def listener(self) -> Iterator[EventReader]:
        """A listener while the context lasts; meanwhile the daemon is queried regularly."""
        listener = EventReader()
        if self._listeners and self._state_frame:
            listener.tell_state(self._state_frame)
        self._listeners.add(listener)
        if self._following is None:
            self._state_frame, self._still, self._answer, self._caught_up = b"", None, None, False
            self._following = asyncio.create_task(self._follow())
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            if not self._listeners and self._following is not None:
                self._following.cancel()
                self._following = None

    def close(self) -> None:
        """End the streams of all listeners."""
        for listener in self._listeners:
            listener.end()

    # ---- inside ---------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        while True:
            try:
                await self._fresh()
            except Exception:  # a bug: the next query may succeed
                logging.getLogger(__name__).exception("reading the status of the daemon failed")
            self._early.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(PERIOD_S):
                    await self._early.wait()

    async def _fresh(self) -> QueryResult:
        if self._looking is None:
            if self._answer is not None and monotonic_s() - self._looked_s < PERIOD_S:
                return self._answer
            self._looking = asyncio.create_task(self._look_once())
        return await asyncio.shield(self._looking)  # others wait for it, too

    async def _look_once(self) -> QueryResult:
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._thread, self._look)
        finally:
            self._looking = None
            self._looked_s = monotonic_s()
        self._answer = answer
        self.exits.absorb(answer.exits)
        self._announce(answer)
        return answer

    def _announce(self, answer: QueryResult) -> None:
        if answer.status is not None:
            self._silent_since = ""
            still = without_clocks(answer.status)
            frame = _event(b"status", answer.encoded) if still != self._still else b""
            self._still = still
        else:
            began, self._still = not self._silent_since, None
            self._silent_since = self._silent_since or rfc3339(wall_s())
            told = {"error": answer.silence, "since": self._silent_since}
            frame = _event(b"silent", encoded(told)) if began or not self._state_frame else b""
        self._state_frame = frame or self._state_frame
        news = answer.exits.records if self._caught_up else []
        self._caught_up = True
        exits = [_event(b"exit", encoded(record)) for record in news] if self._listeners else []
        for listener in self._listeners:
            for exit_ in exits:
                listener.tell_exit(exit_)
            if frame:
                listener.tell_state(frame)

    def _look(self) -> QueryResult:
        """In the thread: query the status, and read new exits."""
        status, facts, silence, no_exits = None, {}, "", ""
        try:
            with ControlClient(self._runtime_dir, TIMEOUT_S) as client:
                facts = client.ask("status")
            status = typed(facts, Status)
        except ControlError as error:
            silence = str(error)
        fresh = Fresh([], [])
        try:
            fresh = self.exits.read()
        except (StateError, OSError) as error:
            no_exits = str(error)
        return QueryResult(status, encoded(facts), silence, fresh, no_exits)


def _event(name: bytes, data: bytes) -> bytes:
    return b"event: " + name + b"\ndata: " + data + b"\n\n"


def without_clocks(status: Status) -> Status:
    """The status without values that change with time alone: equal ones need no new event."""
    return replace(status, uptime_s=0.0, pools={name: _still(pool) for name, pool in status.pools.items()})


def _still(pool: PoolStatus) -> PoolStatus:
    connection = replace(pool.consumer.connection, since_s=0.0)
    return replace(pool, consumer=replace(pool.consumer, at="", connection=connection))
