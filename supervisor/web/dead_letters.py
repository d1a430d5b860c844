"""Dead and parked messages: listed, retried and dropped for the page. Threads do the blocking work.

One job for each pool at a time, with a time limit for its clients. A listing takes messages out of their queue and
requeues them, which brokers count, so an answer is cached: for `KEPT_S`, and up to `TRUSTED_S` while the queue has the
same depth.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from supervisor.brokers.base import Delivery
from supervisor.brokers.copy_headers import PREFIX, diagnosis, former_rounds, plain, preview
from supervisor.brokers.dead_letter_browser import DeadLetterBrowser, NoSuchQueue, open_browser
from supervisor.config.schema import BrokerConfig
from supervisor.errors import PreforkdError
from supervisor.system.clock import monotonic_s, rfc3339, wall_s
from supervisor.web.answers import ApiError, FormerRound, Letter, Letters

KEPT_S = 2.0
TRUSTED_S = 60.0
TIMEOUT_S = 20.0
MAX_LOOKED_BYTES = 32 * 1024 * 1024
MAX_SEARCHED = 10_000
"""The most messages searched by an action: the page shows the oldest ones."""

_THREADS = 8
_HEADER_CHARACTERS = 2000

T = TypeVar("T")
Act = Callable[[DeadLetterBrowser, Delivery], None]


class _Look(msgspec.Struct, frozen=True):
    at_s: float
    depth: int
    limit: int
    answer: Letters

    def enough_for(self, limit: int) -> bool:
        return limit <= self.limit or self.limit >= self.depth


class DeadLetterClient:
    """The dead letters of all pools. `queue`: the pool's own queue; `kind`: `dead` or `parked`; `ids`: message ids."""

    def __init__(self, broker: BrokerConfig, state_dir: str) -> None:
        self._broker = broker
        self._state_dir = state_dir
        self._threads = ThreadPoolExecutor(_THREADS, "letters")
        self._turns: dict[str, asyncio.Lock] = {}
        self._looks: dict[tuple[str, str], _Look] = {}

    async def look(self, queue: str, kind: str, limit: int) -> Letters:
        """The oldest messages, at most `limit`. Raises ApiError 404 or 503."""
        if (known := self._known(queue, kind, limit, KEPT_S)) is None:
            known = await self._in_turn(queue, lambda: self._look(queue, kind, limit))
        return replace(known.answer, letters=known.answer.letters[:limit])

    async def retry(self, queue: str, kind: str, ids: Sequence[str]) -> tuple[int, list[str]]:
        """Move messages to their work queue; returns (count, ids not found). Raises ApiError 404 or 503."""
        return await self._in_turn(queue, lambda: self._act(queue, kind, ids, DeadLetterBrowser.retry))

    async def drop(self, queue: str, kind: str, ids: Sequence[str]) -> tuple[int, list[str]]:
        """Delete messages; returns and raises as `retry`."""
        return await self._in_turn(queue, lambda: self._act(queue, kind, ids, DeadLetterBrowser.drop))

    # ---- in threads -----------------------------------------------------------------------------------------------

    def _look(self, queue: str, kind: str, limit: int) -> _Look:
        if (known := self._known(queue, kind, limit, KEPT_S)) is not None:  # by the job before this one
            return known
        with open_browser(self._broker, self._state_dir, queue, kind == "parked") as box:
            known = self._known(queue, kind, limit, TRUSTED_S)
            if known is not None and known.depth == box.depth:
                return known
            letters = [letter(number, delivery) for number, delivery in enumerate(_oldest(box, limit), 1)]
        answer = Letters(letters=letters, total=box.depth, at=rfc3339(wall_s()))
        look = _Look(monotonic_s(), box.depth, limit, answer)
        self._looks[queue, kind] = look
        return look

    def _act(self, queue: str, kind: str, ids: Sequence[str], act: Act) -> tuple[int, list[str]]:
        done, missing = 0, dict.fromkeys(ids)
        try:
            with open_browser(self._broker, self._state_dir, queue, kind == "parked") as box:
                for delivery in _with_ids(box, ids):
                    act(box, delivery)
                    done += 1
                    missing.pop(delivery.properties.message_id or "", None)
        except PreforkdError as error:
            error.args = (f"{error}; until then: {done} message(s) done, the others are still in their queue",)
            raise
        finally:
            self._looks.pop((queue, kind), None)
        return done, list(missing)

    def _known(self, queue: str, kind: str, limit: int, age_s: float) -> _Look | None:
        look = self._looks.get((queue, kind))
        fresh = look is not None and monotonic_s() - look.at_s < age_s
        return look if look is not None and fresh and look.enough_for(limit) else None

    # ---- turns ----------------------------------------------------------------------------------------------------

    async def _in_turn(self, queue: str, work: Callable[[], T]) -> T:
        turn = self._turns.setdefault(queue, asyncio.Lock())
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await turn.acquire()
        except TimeoutError as error:
            raise ApiError(
                503, f"an earlier request for the letters of {queue} is not over: check the broker"
            ) from error
        job = asyncio.get_running_loop().run_in_executor(self._threads, work)
        job.add_done_callback(lambda done: _over(done, turn))
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await asyncio.shield(job)
        except TimeoutError as error:
            raise ApiError(
                503, f"the broker did not answer within {TIMEOUT_S:g} s; the action may still be carried out"
            ) from error
        except NoSuchQueue as error:
            raise ApiError(404, str(error)) from error
        except PreforkdError as error:
            raise ApiError(503, str(error)) from error


def letter(number: int, delivery: Delivery) -> Letter:
    """The letter with this `number` in its queue, whatever types its headers have."""
    ours, headers = diagnosis(delivery), delivery.properties.headers or {}
    theirs = {name: _cut(plain(value)) for name, value in headers.items() if not name.startswith(PREFIX)}
    return Letter(
        **_ended(ours),
        number=number,
        id=delivery.properties.message_id or "",
        former=[FormerRound(**_ended(facts), round=_whole(facts.get("round"))) for facts in former_rounds(headers)],
        headers=theirs,
        body_preview=preview(delivery.body),
        body_bytes=len(delivery.body),
    )


def without_contents(found: Letters) -> Letters:
    """The same without what the messages contain: for the other users of the machine, who may look at the daemon."""
    letters = [replace(each, headers={}, body_preview="") for each in found.letters]
    return replace(found, letters=letters, withheld=True)


def _ended(facts: dict[str, Any]) -> dict[str, Any]:
    """How a round ended."""
    return {
        **{name: _text(facts.get(name)) for name in ("cause", "reason", "worker", "at", "stack")},
        **{name: _whole(facts.get(name)) for name in ("attempts", "status")},
        "signal": _text(facts.get("signal")) or None,
    }


def _oldest(box: DeadLetterBrowser, limit: int) -> Iterable[Delivery]:
    """The oldest messages, taken one by one because bodies may be large."""
    seen = 0
    for _ in range(min(limit, box.depth)):
        for delivery in box.first(1):
            seen += len(delivery.body)
            yield delivery
        if seen > MAX_LOOKED_BYTES:
            return


def _with_ids(box: DeadLetterBrowser, ids: Sequence[str]) -> list[Delivery]:
    """The messages with these ids among the oldest; the search ends with the last one."""
    left, found = set(ids), list[Delivery]()
    for delivery, _ in zip(box.all_now(1), range(MAX_SEARCHED), strict=False):
        if delivery.properties.message_id in ids:
            found.append(delivery)
            left.discard(delivery.properties.message_id)
        if not left:
            break
    return found


def _over(job: asyncio.Future[Any], turn: asyncio.Lock) -> None:
    turn.release()
    if not job.cancelled():
        job.exception()  # marks it as seen: there may be no caller left


def _text(value: Any) -> str:
    return "" if value is None else str(plain(value))


def _whole(value: Any) -> int | None:
    return value if type(value) is int else None


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _HEADER_CHARACTERS:
        return f"{value[:_HEADER_CHARACTERS]}… {len(value) - _HEADER_CHARACTERS} more character(s)"
    return value
