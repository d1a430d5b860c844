"""The producer for web applications and scripts: one long-lived connection for a process, shared by all its threads.

Runs in user processes. The connection belongs to one thread (`sender.py`), so heartbeats are kept while the application
is idle or busy, and no caller ever waits for a socket. It must stay light at import, leave logging, signals and event
loops of the application alone, and survive a fork: a child connects by itself, and sends nothing of its parent's.
"""

from __future__ import annotations

import _thread
import atexit
import os
import select
import sys
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from supervisor.brokers import open_producer
from supervisor.client.backlog import Item
from supervisor.client.errors import ClientClosed, ClientError, ClientFailed
from supervisor.client.request import Request, json_body, properties_of
from supervisor.client.sender import Sender
from supervisor.config.schema import BrokerConfig, TlsConfig
from supervisor.messages.message import Properties
from supervisor.system.clock import wall_s
from supervisor.system.reactor import Reactor

MAX_MESSAGES = 10_000
MAX_BYTES = 64 * 1024 * 1024
_SENDER = "sender"
_PUBLISH_S = 30.0
_CLOSE_S = 5.0
_SLACK_S = 10.0
"""The thread tells a message's fate at its time limit. A caller waits this much longer for it, and no more."""


class Client:
    """Publishes from any thread of a process. Make one for a process, at import: it connects at its first message.

    Each message is persistent, mandatory and confirmed. It has an id; give your own key (`order-4711`), and the same
    message may be published any number of times and runs once.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        tls: TlsConfig | None = None,
        name: str = "",
        heartbeat_s: float = 15.0,
        publish_timeout_s: float = _PUBLISH_S,
        max_messages: int = MAX_MESSAGES,
        max_bytes: int = MAX_BYTES,
        full_wait_s: float = 0.0,
    ) -> None:
        """Opens nothing yet.

        `url`: of the broker, or of several, which are tried in order; `embedded:FOLDER`, the state directory of a
        daemon on this machine, for trials. `tls`: the files for `amqps://`. `name`: shown at the broker.
        `max_messages`, `max_bytes`: the most that may be unconfirmed; then BufferFull, for `publish` after
        `full_wait_s`.
        Raises ValueError for a URL of another kind, ClientFailed under gevent and eventlet.
        """
        _refuse_greenlets("Client")
        urls = (url,) if isinstance(url, str) else tuple(url)
        _check(urls)
        self._state_dir = urls[0].removeprefix("embedded:") if urls[0].startswith("embedded:") else ""
        self._broker = BrokerConfig(
            urls=("embedded:",) if self._state_dir else urls, heartbeat_s=heartbeat_s, tls=tls or TlsConfig()
        )
        self._name = name or f"preforkd client {Path(sys.argv[0] or 'python').name}"
        self._publish_timeout_s = publish_timeout_s
        self._bounds = (max_messages, max_bytes)
        self._full_wait_s = full_wait_s
        self._guard = threading.RLock()
        self._present: dict[str, Sender] = {}  # one at most; a dict, because its `setdefault` is one step
        self._dropped: weakref.finalize[..., Client] | None = None
        self._inherited: list[Sender] = []
        self._closed = False
        this = weakref.ref(self)
        os.register_at_fork(after_in_child=partial(_in_child, this))
        atexit.register(_at_exit, this)

    # ---- messages -------------------------------------------------------------------------------------------------

    def publish(
        self,
        routing_key: str,
        body: bytes | str,
        *,
        exchange: str = "",
        message_id: str | None = None,
        properties: Properties | None = None,
        expires_s: float | None = None,
        delay_s: float = 0.0,
        timeout_s: float | None = None,
        **fields: Any,
    ) -> str:
        """Publish a message, and return its id once the broker has confirmed it.

        `routing_key`: the queue's name, where `exchange` is "" (the default exchange). `message_id`: your own key for
        the message; None: a UUID. `**fields` replace single `properties`: `headers`, `content_type`, `priority` and so
        on. A str is sent as UTF-8. `expires_s`: a message that has not begun by then is dead-lettered as expired.
        `delay_s`: the message waits so long before it is in its queue, rounded up to the next step of the delay queues.
        `timeout_s`: how long to wait for the confirm; None: the client's `publish_timeout_s`.

        Raises a ClientError, whose `maybe_published` says whether the broker may have the message (ClientFailed in a
        future's callback: use `submit` there); TypeError for a body of another type or an unknown keyword.
        """
        limit_s = self._publish_timeout_s if timeout_s is None else timeout_s
        given = properties_of(properties, message_id, fields)
        item = _item(Request(routing_key, body, exchange, given, expires_s, delay_s), limit_s, waited_for=True)
        if self._running().is_this_thread:
            raise ClientFailed("publish: a future's callback would wait for its own thread: call submit there")
        self._put(item, self._full_wait_s)
        return _result(item, limit_s)

    def submit(
        self,
        routing_key: str,
        body: bytes | str,
        *,
        exchange: str = "",
        message_id: str | None = None,
        properties: Properties | None = None,
        expires_s: float | None = None,
        delay_s: float = 0.0,
        timeout_s: float | None = None,
        **fields: Any,
    ) -> Future[str]:
        """Give a message to the client, and return a future of its id, or of its ClientError. Never waits.

        Parameters as of `publish`, but `timeout_s` None means no limit. The future cannot be cancelled: the message
        stays. Its callbacks run in the client's thread and must not block it.
        Raises BufferFull, ClientClosed, LoginRefused, InvalidMessage and TypeError at once: nothing was taken then.
        """
        given = properties_of(properties, message_id, fields)
        item = _item(Request(routing_key, body, exchange, given, expires_s, delay_s), timeout_s, waited_for=False)
        self._put(item, 0.0)
        return item.future

    async def publish_async(
        self,
        routing_key: str,
        body: bytes | str,
        *,
        exchange: str = "",
        message_id: str | None = None,
        properties: Properties | None = None,
        expires_s: float | None = None,
        delay_s: float = 0.0,
        timeout_s: float | None = None,
        **fields: Any,
    ) -> str:
        """`publish` for coroutines: the event loop goes on meanwhile. A cancelled task leaves the message: it is sent.

        Parameters and errors as of `publish`; it never waits for room, so BufferFull comes at once.
        """
        import asyncio  # loaded late: programs without an event loop do not need it

        limit_s = self._publish_timeout_s if timeout_s is None else timeout_s
        given = properties_of(properties, message_id, fields)
        item = _item(Request(routing_key, body, exchange, given, expires_s, delay_s), limit_s, waited_for=True)
        self._put(item, 0.0)
        return await asyncio.wrap_future(item.future)

    def send_later(self, queue: str, value: Any, *, delay_s: float = 0.0, **options: Any) -> str:
        """Publish `value` as JSON to a queue, with or without a delay; returns the id once it is confirmed.

        `options`: those of `publish`. Raises as `publish`, and InvalidMessage for a value that JSON does not have.
        """
        body = json_body(value)
        return self.publish(queue, body, delay_s=delay_s, **{"content_type": "application/json", **options})

    # ---- the end --------------------------------------------------------------------------------------------------

    def close(self, timeout_s: float = _CLOSE_S) -> list[str]:
        """Wait for the confirms of all messages, at most `timeout_s`, and close. Returns the ids without a confirm.

        Their futures have a ClientClosed. May be called again. At the end of the interpreter it is called by itself.
        """
        with self._guard:
            self._closed = True
            sender = self._present.get(_SENDER)
        if sender is None:
            return []
        sender.finish(timeout_s)
        sender.join(timeout_s + _SLACK_S)
        return list(sender.unconfirmed)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- inside ---------------------------------------------------------------------------------------------------

    def _put(self, item: Item, wait_s: float) -> None:
        while not (sender := self._running()).intake.put(item, wait_s):
            with self._guard:
                if self._present.get(_SENDER) is sender:
                    del self._present[_SENDER]  # its thread has ended by an error: start another

    def _running(self) -> Sender:
        _refuse_greenlets("publish")  # a library may have replaced threads since the client was made
        sender = self._present.get(_SENDER)
        if sender is None:
            with self._guard:
                sender = self._present.get(_SENDER) or self._started()
        return sender

    def _started(self) -> Sender:
        if self._closed:
            raise ClientClosed("publish: the client is closed, and takes no messages: make another one")
        broker, name, state_dir = self._broker, self._name, self._state_dir

        def opened(reactor: Reactor) -> Any:
            return open_producer(broker, name, state_dir, reactor)

        started = Sender(opened, *self._bounds)
        present = self._present.setdefault(_SENDER, started)
        if present is not started:  # a signal handler has published meanwhile, in this thread
            started.finish(0.0)
            return present
        self._dropped = weakref.finalize(self, started.finish, _CLOSE_S)
        self._dropped.atexit = False
        return started

    def _forked(self) -> None:
        """In a child: the thread, the connection and the messages are the parent's. Any lock may be held for ever."""
        self._guard = threading.RLock()
        if self._dropped is not None:
            self._dropped.detach()
        inherited = list(self._present.values())
        self._present.clear()
        self._inherited += inherited  # never freed, so that nothing of it is closed by the collector
        for sender in inherited:
            if not sender.intake.is_over:
                sender.disown()


def _refuse_greenlets(what: str) -> None:
    """Raise ClientFailed where a library has replaced threads or epoll of the standard library.

    A thread that is a greenlet would block all signals of the process and stop it at its first wait.
    """
    if hasattr(select, "epoll") and _thread.start_new_thread.__module__ == _thread.__name__:
        return
    library = " and ".join(name for name in ("gevent", "eventlet") if name in sys.modules) or "a library"
    raise ClientFailed(
        f"{what}: {library} has replaced threads or epoll in this process, and the client needs both: use workers with"
        " threads (gunicorn: --worker-class gthread), or put messages into the outbox, and relay them in a process of"
        " its own"
    )


def _check(urls: tuple[str, ...]) -> None:
    for url in urls:
        try:
            scheme = urlsplit(url).scheme
        except ValueError:
            scheme = ""
        if scheme not in ("amqp", "amqps", "embedded"):
            raise ValueError("Client: a URL begins with amqp:// or amqps://, or is embedded:FOLDER")
    if not urls or (len(urls) > 1 and any(url.startswith("embedded:") for url in urls)) or "embedded:" in urls:
        raise ValueError("Client: give one URL or several of RabbitMQ, or one embedded:FOLDER with the state directory")


def _item(request: Request, limit_s: float | None, waited_for: bool) -> Item:
    request = request.in_delay_queue()
    return Item(request.publication(wall_s()), request.delay_s, limit_s, waited_for)


def _result(item: Item, limit_s: float) -> str:
    try:
        return item.future.result(limit_s + _SLACK_S)
    except ClientError as error:
        raise error from None  # without the frames of the client's thread
    except TimeoutError:
        text = "publish: the client's thread does not answer; the message may be at the broker or not"
        raise ClientFailed(text, item.message_id, maybe_published=True) from None


def _in_child(this: weakref.ref[Client]) -> None:
    if (client := this()) is not None:
        client._forked()


def _at_exit(this: weakref.ref[Client]) -> None:
    if (client := this()) is not None:
        client.close()
