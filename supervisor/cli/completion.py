"""Shell completion: names of pools and queues, slots and message ids, from the configuration and the running daemon.

A shell runs `preforkd` at each TAB, so nothing here may disturb or hold up a prompt: no error is shown, the daemon has
`ASKED_S` for its answers, and after `LIMIT_S` the process ends with what it has. No broker is asked: looking at dead
letters counts towards a delivery limit. Their ids are from the log file.

Heavy imports are inside of functions: every command imports this file.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from supervisor.cli.command import COMPLETION_VARIABLE
from supervisor.cli.invocation import Invocation
from supervisor.cli.names import pool_of
from supervisor.errors import PreforkdError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    Items = list[CompletionItem[str]]

ASKED_S = 0.12
LIMIT_S = 3.0

_IDS = 50
_TAIL_BYTES = 256 * 1024
_GIVEN_UP = {"message.dead": False, "message.parked": True}
"""Log event → whether the message is in the parked queue."""

Facts = dict[str, Any]


def answer(program: click.Command) -> int:
    """Print what a shell has asked for in its variables; nothing where anything fails. Returns the exit code, 0."""
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    with suppress(Exception):  # whatever it is: a prompt is no place to report it
        from click.shell_completion import shell_complete

        import supervisor.cli.shells  # noqa: F401  (registers our script for bash)

        shell_complete(program, {}, "preforkd", COMPLETION_VARIABLE, os.environ[COMPLETION_VARIABLE])
    signal.setitimer(signal.ITIMER_REAL, 0)
    return 0


# ---- for arguments and options: shell_complete=… --------------------------------------------------------------------


def pools(context: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """Names of pools, then of queues."""
    facts = _Facts(context)
    return _items(facts.names(), incomplete)


def targets(context: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """What `why` explains: pools, workers behind `POOL/`, messages that run or whose worker has exited."""
    facts = _Facts(context)
    names = () if context.params.get("as_message") else (*facts.names(), *facts.slots(incomplete))
    return _items([*names, *facts.running(), *facts.of_exits()], incomplete)


def dead_ids(context: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """Ids of dead letters, or parked messages, of the queue that was named before."""
    facts = _Facts(context)
    pool = pool_of(str(context.params.get("queue")), facts.queues())
    return _items(facts.given_up(pool, bool(context.params.get("parked"))), incomplete, context.params.get("ids"))


def pending_ids(context: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """Ids of failed messages that have not come back, of the pool that was named before."""
    facts = _Facts(context)
    pool = pool_of(str(context.params.get("pool")), facts.queues())
    return _items(facts.pending(pool), incomplete, context.params.get("ids"))


def _items(found: Iterable[tuple[str, str]], incomplete: str, given: Iterable[str] | None = None) -> Items:
    """Candidates (value, help) that can be typed as they are: no line ends, and nothing that looks like an option."""
    from click.shell_completion import CompletionItem  # loaded late: see the head of this file

    known = dict.fromkeys(given or ())
    fitting: dict[str, str] = {}
    for value, text in found:
        if value.startswith(incomplete) and value.isprintable() and not value.startswith("-") and value not in known:
            fitting.setdefault(value, text)
    return [CompletionItem(value, help=text) for value, text in fitting.items()]


# ---- facts ----------------------------------------------------------------------------------------------------------


class _Facts:
    """What is known without a wait. Each method gives (value, help), and nothing for what cannot be read or asked."""

    def __init__(self, context: click.Context) -> None:
        self._invocation = context.ensure_object(Invocation)
        self._status = self._ask("status")

    def queues(self) -> dict[str, str]:
        """The queue of each pool of the daemon, and of the file."""
        running = {name: str(pool["queue"]) for name, pool in self._status.get("pools", {}).items()}
        with suppress(PreforkdError):
            return self._invocation.queues(None) | running
        return running

    def names(self) -> Iterator[tuple[str, str]]:
        queues = self.queues()
        yield from ((name, f"pool, queue {queue}") for name, queue in queues.items())
        yield from ((queue, f"queue of pool {name}") for name, queue in queues.items())

    def slots(self, incomplete: str) -> Iterator[tuple[str, str]]:
        """Workers of the pool before the last `/`, also if it is named by its queue."""
        name = incomplete.rpartition("/")[0]
        pool = pool_of(name, self.queues())
        workers = self._status.get("pools", {}).get(pool, {}).get("workers", ())
        yield from ((f"{name}/{worker['slot']}", str(worker["state"])) for worker in workers)

    def running(self) -> Iterator[tuple[str, str]]:
        for pool in self._status.get("pools", {}).values():
            for worker in pool["workers"]:
                if worker["message_id"]:
                    yield worker["message_id"], f"runs at {worker['name']}"

    def of_exits(self) -> Iterator[tuple[str, str]]:
        from supervisor.exit_history import CURRENT

        with suppress(PreforkdError):
            records = _last_lines(str(self._invocation.state_dir / CURRENT))
            found = ((str(line["message_id"]), str(line.get("cause"))) for line in records if line.get("message_id"))
            yield from islice(found, _IDS)

    def given_up(self, pool: str | None, parked: bool) -> Iterator[tuple[str, str]]:
        for line in _last_lines(self._log_file()):
            ours = line.get("process") == f"consumer {pool}" and line.get("message_id")
            if ours and _GIVEN_UP.get(str(line.get("event"))) is parked:
                yield str(line["message_id"]), str(line.get("cause") or line["event"])

    def pending(self, pool: str | None) -> Iterator[tuple[str, str]]:
        answer = self._ask("pending", pool=pool) if pool else {}
        for trace in answer.get("pools", {}).get(pool, {}).get("traces", ()):
            yield str(trace["message_id"]), str(trace["state"])

    def _log_file(self) -> str:
        """The file of `[log]`, or that of a daemon without one."""
        from supervisor.cli.invocation import LOG_NAME

        with suppress(PreforkdError):
            if (file := self._invocation.log.file) != "-":
                return file
        return str(self._invocation.state_dir / LOG_NAME)

    def _ask(self, verb: str, **arguments: Any) -> Facts:
        from supervisor.control.client import ControlClient

        with suppress(PreforkdError), ControlClient(self._invocation.runtime_dir, ASKED_S) as daemon:
            return daemon.ask(verb, **arguments)
        return {}


def _last_lines(path: str) -> Iterator[Facts]:
    """The JSON objects in the last part of a file, the newest first."""
    import msgspec

    with suppress(OSError), open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
        for line in reversed(file.read().splitlines()):
            with suppress(msgspec.MsgspecError):
                yield msgspec.json.decode(line, type=dict)
