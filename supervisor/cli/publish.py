"""`preforkd publish`: put messages into a queue. "published" is said only of messages that the broker has confirmed."""

from __future__ import annotations

import difflib
import itertools
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import click
from msgspec.structs import replace

from supervisor.brokers import open_admin
from supervisor.brokers.admin import BrokerAdmin, PublishReport
from supervisor.cli.command import command
from supervisor.cli.completion import pools
from supervisor.cli.console import print_line, progress_bar, shown
from supervisor.cli.invocation import AtLeast, Invocation, pass_invocation
from supervisor.client import BufferFull, Client, ClientError, ClientFailed, LoginRefused, TimedOut
from supervisor.config.schema import PoolConfig
from supervisor.errors import BrokerRefused, PreforkdError
from supervisor.messages.message import Properties, Publication
from supervisor.messages.publications import sendable

_WINDOW = 1000  # messages on their way without a confirm, at most
_REASONS_SHOWN = 5
_HEARTBEAT_S = 60.0


class Header(click.ParamType):  # type: ignore[type-arg]  # as in invocation.py
    """`name=value`."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Split at the first `=`."""
        name, equals, text = str(value).partition("=")
        if not name or not equals:
            self.fail(f"{value!r}: write a header as name=value", param, ctx)
        return name, text


@command(
    "publish",
    ("One message from the shell", "echo '{\"to\": 7}' | preforkd publish email"),
    ("Each line is a message; repeated, none runs twice", "preforkd publish email jobs.txt --id-prefix june-"),
    ("Each file is a message", "preforkd publish email --files a.json b.json"),
)
@click.argument("queue", shell_complete=pools)
@click.argument(
    "files", nargs=-1, metavar="[FILES]", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True)
)
@click.option("--files", "whole", is_flag=True, help="Make each file one message, not each line.")
@click.option(
    "--id-prefix",
    metavar="PREFIX",
    help="Use the ids PREFIX0, PREFIX1, and so on; the same published twice runs once. Else: UUIDs.",
)
@click.option(
    "--header", "headers", multiple=True, type=Header(), help="Add a header to all messages; may be repeated."
)
@click.option("--content-type", metavar="TYPE", help="Set the content type of all messages.")
@click.option(
    "--count",
    type=AtLeast(1),
    default=1,
    metavar="NUMBER",
    show_default=True,
    help="Publish all messages so many times.",
)
@pass_invocation
def publish_command(
    invocation: Invocation,
    queue: str,
    files: tuple[Path, ...],
    whole: bool,
    id_prefix: str | None,
    headers: tuple[tuple[str, str], ...],
    content_type: str | None,
    count: int,
) -> int:
    """Publish messages to QUEUE, one for each line of FILES.

    Without FILES, the lines are read from the standard input. A message counts as published once the broker has
    confirmed it.
    """
    if whole and not files:
        raise click.UsageError("--files needs at least one FILE")
    queue = invocation.queue(queue)
    template = Properties(content_type=content_type, headers=dict(headers) or None, delivery_mode=2)
    bodies = repeated(_bodies(files, whole), count)
    report = _publish(invocation, queue, publications(queue, bodies, template, id_prefix))
    return _say(report, queue)


def publications(
    queue: str, bodies: Iterable[bytes], template: Properties, id_prefix: str | None
) -> Iterator[Publication]:
    """A publication for each body, with an id of its own: numbered behind `id_prefix`, or a UUID where it is
    None. Raises PreforkdError at one that cannot be sent.
    """
    for number, body in enumerate(bodies):
        message_id = uuid.uuid4().hex if id_prefix is None else f"{id_prefix}{number}"
        properties = replace(template, message_id=message_id, timestamp=int(time.time()))
        try:
            publication = sendable(Publication("", queue, properties, body))
        except ValueError as error:
            before = f"; {number} message(s) before it have been sent" if number else ""
            raise PreforkdError(f"message {number} cannot be sent: {error}{before}") from error
        yield publication


def repeated(bodies: Iterator[bytes], count: int) -> Iterator[bytes]:
    """All bodies, `count` times over; they are kept in memory only where they are needed again."""
    if count == 1:
        return bodies
    return itertools.chain.from_iterable(itertools.repeat(list(bodies), count))


def _bodies(files: tuple[Path, ...], whole: bool) -> Iterator[bytes]:
    for file in files or (Path("-"),):
        with click.open_file(str(file), "rb") as stream:
            if whole:
                yield stream.read()
            else:
                yield from (line.rstrip(b"\r\n") for line in stream)


def _refuse_missing(admin: BrokerAdmin, queue: str, pools: Mapping[str, PoolConfig]) -> None:
    """Raise PreforkdError if there is no such queue, before a message is read. A broker that does not tell returns the
    messages themselves."""
    try:
        if admin.depth(queue) is not None:
            return
    except BrokerRefused:  # rights to publish, and no others
        return
    where = admin.facts(queue).server
    raise PreforkdError(
        f"there is no queue {shown(queue)} on {shown(where)}: nothing was published; {_advice(queue, pools)}"
    )


def _advice(queue: str, pools: Mapping[str, PoolConfig]) -> str:
    """How there comes to be such a queue, or which one may be meant."""
    queues = {pool.queue: pool for pool in pools.values()}
    if queue in queues:
        pool = queues[queue]
        start = f"`preforkd start` makes it for pool {pool.name}"
        return start if pool.declare else f"make it at the broker: pool {pool.name} has declare = false"
    near = difflib.get_close_matches(queue, [*queues], n=1)
    meant = f"; did you mean {shown(near[0])}?" if near else ""
    return f"preforkd makes the queues of its pools only ({', '.join(map(shown, queues))}){meant}"


def _publish(invocation: Invocation, queue: str, messages: Iterator[Publication]) -> PublishReport:
    with open_admin(invocation.messages.broker, str(invocation.state_dir)) as admin:
        _refuse_missing(admin, queue, invocation.messages.pools)
    client = _client(invocation)
    with progress_bar() as bar:
        task = bar.add_task("published", total=None)
        run = _Run(client, invocation.messages.broker.blocked_timeout_s, lambda sent: bar.update(task, completed=sent))
        try:
            report = run.report(messages)
        except BaseException as error:  # the client must not wait for confirms that are reported by none
            client.close(0.0)
            if isinstance(error, KeyboardInterrupt):
                confirmed = f"{run.sent} message(s) were confirmed until then"
                click.echo(f"\n{confirmed}; others may be in the queue, too", err=True)
            raise
    client.close()
    return report


def _client(invocation: Invocation) -> Client:
    """A client of the configuration's broker. What it would log is in the errors that this command shows."""
    broker = invocation.messages.broker
    logging.getLogger("preforkd.client").addHandler(logging.NullHandler())
    logging.getLogger("pika").setLevel(logging.CRITICAL)  # it returns the same as errors
    urls = f"embedded:{invocation.state_dir}" if broker.embedded else broker.urls
    return Client(urls, tls=broker.tls, name="preforkd publish", heartbeat_s=max(_HEARTBEAT_S, broker.heartbeat_s))


class _Run:
    """Publishes with at most `_WINDOW` messages on their way. `on_confirmed`: called with the number of confirmed ones.

    A message has `limit_s` for its confirm. One that has none by then ends the run: the broker is away.
    """

    def __init__(self, client: Client, limit_s: float, on_confirmed: Callable[[int], object]) -> None:
        self.sent = 0
        self._client = client
        self._limit_s = limit_s
        self._on_confirmed = on_confirmed
        self._pending: deque[tuple[int, Future[str]]] = deque()
        self._failed: list[tuple[int, str]] = []
        self._absent: set[int] = set()
        self._over = ""

    def report(self, messages: Iterable[Publication]) -> PublishReport:
        """Publish all. Raises what `messages` raises."""
        for index, publication in enumerate(messages):
            future = None if self._over else self._submitted(publication)
            if future is None:
                self._note(index, f"not sent, nor any message after it: {self._over}", absent=True)
                break
            self._pending.append((index, future))
            while self._pending and (len(self._pending) >= _WINDOW or self._pending[0][1].done()):
                self._settle_oldest()
        while self._pending:
            self._settle_oldest()
        return PublishReport(self.sent, sorted(self._failed), frozenset(self._absent))

    def _submitted(self, publication: Publication) -> Future[str] | None:
        """The future of a message; None where the run is over."""
        while not self._over:
            try:
                return self._client.submit(
                    publication.routing_key,
                    publication.body,
                    properties=publication.properties,
                    timeout_s=self._limit_s,
                )
            except BufferFull:  # large messages: fewer of them are on their way
                self._settle_oldest()
            except LoginRefused as error:
                self._over = error.reason
        return None

    def _settle_oldest(self) -> None:
        index, future = self._pending.popleft()
        error = future.exception()
        if error is None:
            self.sent += 1
            self._on_confirmed(self.sent)
            return
        if not isinstance(error, ClientError):
            raise error
        self._note(index, error.reason, absent=not error.maybe_published)
        if isinstance(error, TimedOut | LoginRefused | ClientFailed) or error.maybe_published:
            self._over = error.reason

    def _note(self, index: int, reason: str, absent: bool) -> None:
        self._failed.append((index, reason))
        if absent:
            self._absent.add(index)


def _say(report: PublishReport, queue: str) -> int:
    if not report.failed:
        print_line(f"published {report.sent} message(s) to {queue}")
        return 0
    for index, reason in report.failed[:_REASONS_SHOWN]:
        click.echo(f"  message {index}: {shown(reason)}", err=True)
    raise PreforkdError(
        f"published {report.sent} message(s) to {shown(queue)}, {len(report.failed)} not confirmed (the first ones "
        f"above); {where_they_are(len(report.failed), len(report.absent))}"
    )


def where_they_are(failed: int, absent: int) -> str:
    """What is known about failed messages of which so many are `absent`, in no queue, and how to publish them."""
    if absent == failed:
        return "they are not in the queue: once the reason is gone, publish them again"
    of_them = f"{absent} of them are not in the queue, the others" if absent else "they"
    return (
        f"{of_them} may or may not be in the queue: with --id-prefix the whole run can be repeated, "
        "and no message runs twice"
    )
