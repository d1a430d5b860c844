"""One connection to PostgreSQL that never blocks and reconnects: libpq's own state machine, driven by a loop.

Runs in the consumer, between its turns. It must not wait (the broker's heartbeat hangs on the same loop), start no
thread but for names (`targets.py`), set nothing in the server's session (poolers), and not decide what an answer means.
psycopg is here for its binding of libpq alone (`psycopg.pq`).
"""

from __future__ import annotations

import random
import select
from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import NamedTuple

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from supervisor.fleet.encoding import Answer, Statement
from supervisor.fleet.targets import Targets
from supervisor.system.clock import boottime_s
from supervisor.system.descriptor_set import READ, WRITE, DescriptorSet

CONNECT_S = 5.0
"""How long one attempt to connect may take, and the look-up of names before it."""
REQUEST_S = 10.0
"""How long the server may take for an answer; then the connection counts as lost."""
QUICK_S, FIRST_S, CAP_S = 0.1, 0.25, 5.0
"""The wait before the first attempt after a loss, before the next round of all hosts, and the longest one."""

_BINARY = 1

_OURS = {
    "gssencmode": "disable",  # its servers would be asked by a call that blocks
    "target_session_attrs": "read-write",  # never a standby
    "client_encoding": "UTF8",
    "tcp_user_timeout": str(round(REQUEST_S * 1000)),
}
"""What is asked of libpq, unless the URL says otherwise. Nothing of it is refused by a pooler."""


class Failure(NamedTuple):
    """Why there is no answer, or no connection. `sqlstate`: "" where the server has not said one."""

    sqlstate: str
    text: str


class _Phase(Enum):
    WAITING = auto()  # until `_due_s`, for the next attempt
    LOOKING = auto()  # for addresses
    CONNECTING = auto()
    IDLE = auto()
    BUSY = auto()  # a statement is under way
    CLOSED = auto()


class Connection:
    """The connection, connected again whenever it is lost. All times: CLOCK_BOOTTIME.

    `keywords`: of libpq, without hosts and ports. `targets`: where to connect; this closes it. `descriptors`: is told
    what to wait for. `opened`: how many connections there have been. `failure`: why the last one ended, or why there is
    none. `rounds`: how often all hosts were tried since the last answer.
    """

    def __init__(self, keywords: Mapping[str, str], targets: Targets, descriptors: DescriptorSet) -> None:
        self.opened = 0
        self.rounds = 0
        self.failure = Failure("", "")
        self._keywords = {**_OURS, **keywords}
        self._targets = targets
        self._descriptors = descriptors
        self._phase = _Phase.WAITING
        self._due_s = boottime_s()
        self._postgres: pq.abc.PGconn | None = None
        self._socket = -1
        self._wanted = 0
        self._results: list[pq.abc.PGresult] = []
        self._last_words = deque[Failure](maxlen=1)  # what the server says by itself, as before it shuts down
        self._answered = False  # this connection has served
        self._looking: int | None = None

    @property
    def up(self) -> bool:
        """Whether there is a connection."""
        return self._phase in (_Phase.IDLE, _Phase.BUSY)

    @property
    def idle(self) -> bool:
        """Whether `send` may be called."""
        return self._phase is _Phase.IDLE

    @property
    def due_s(self) -> float:
        """When `turn` has to be called at the latest; infinite while there is nothing to wait for."""
        return float("inf") if self._phase in (_Phase.IDLE, _Phase.CLOSED) else self._due_s

    def send(self, statement: Statement) -> None:
        """Begin a statement, `idle` as this is. Its answer comes from `turn`; none comes if the connection is lost."""
        assert self._postgres is not None and self.idle
        self._phase, self._due_s = _Phase.BUSY, boottime_s() + REQUEST_S
        types = [parameter.type for parameter in statement.parameters]
        values = [parameter.value for parameter in statement.parameters]
        try:
            self._postgres.send_query_params(statement.sql, values, types, [_BINARY] * len(values), _BINARY)
            self._flush(self._postgres)
        except psycopg.Error as error:
            self._lose(_of_text(str(error)))

    def turn(self) -> Answer | Failure | None:
        """Go on as far as possible without waiting. Returns what became of the statement under way: its answer, or why
        the server refused it; None while that is open, or after the connection was lost (`up`, `failure`)."""
        if self._phase is _Phase.WAITING and boottime_s() >= self._due_s:
            self._begin_round()
        if self._phase is _Phase.LOOKING:
            self._look()
        if self._phase is _Phase.CONNECTING:
            self._connect()
        return self._hear() if self.up else None

    def lose(self, text: str) -> None:
        """Give up this connection, for the reason in `text`, and try the next host."""
        if self.up:
            self._lose(Failure("", text))

    def close(self) -> None:
        """End the connection for good. A second call does nothing."""
        self._drop()
        self._unwatch_names()
        self._targets.close()
        self._phase = _Phase.CLOSED

    # ---- connecting -------------------------------------------------------------------------------------------------

    def _begin_round(self) -> None:
        """The next host; at the end of a round, look the names up again first."""
        if not self._targets.round_is_over:
            self._begin_attempt()
            return
        self._phase, self._due_s = _Phase.LOOKING, boottime_s() + CONNECT_S
        self._looking = self._targets.begin()
        if self._looking is not None:
            self._descriptors.watch(self._looking, READ)

    def _look(self) -> None:
        if not self._targets.ready():
            if boottime_s() < self._due_s:
                return
            self._targets.give_up()
        self._unwatch_names()
        self._begin_attempt()

    def _begin_attempt(self) -> None:
        target = self._targets.next()
        if target is None:
            self._retry(Failure("", self._targets.fault))
            return
        where = {"host": target.host, "port": str(target.port)}
        if target.hostaddr:
            where["hostaddr"] = target.hostaddr
        self._phase, self._due_s = _Phase.CONNECTING, boottime_s() + CONNECT_S
        self._last_words.clear()
        try:
            postgres = pq.PGconn.connect_start(make_conninfo("", **self._keywords, **where).encode())
        except psycopg.Error as error:
            self._retry(_of_text(str(error)))
            return
        self._postgres = postgres
        postgres.notice_handler = _keeping(self._last_words)
        if postgres.status == pq.ConnStatus.BAD:
            self._lose(_of_text(postgres.get_error_message()))
        else:
            self._watch(WRITE)

    def _connect(self) -> None:
        """As far as the socket lets it: libpq must not be asked before that is ready (PQconnectPoll)."""
        postgres = self._postgres
        assert postgres is not None
        while _is_ready(self._socket, self._wanted):
            status = postgres.connect_poll()
            if status == pq.PollingStatus.FAILED:
                self._lose(_of_text(postgres.get_error_message()))
                return
            if status == pq.PollingStatus.OK:
                postgres.nonblocking = 1
                self._watch(READ)
                self.opened += 1
                self._phase, self._answered = _Phase.IDLE, False
                return
            self._watch(READ if status == pq.PollingStatus.READING else WRITE)
        if boottime_s() >= self._due_s:
            self._lose(Failure("", f"no connection within {CONNECT_S:.0f} s"))

    def _retry(self, failure: Failure) -> None:
        """Another attempt later: the next host soon, the next round after a wait that grows."""
        self.failure, self._phase = failure, _Phase.WAITING
        if not self._targets.round_is_over:
            wait_s = 0.0
        else:
            wait_s = min(CAP_S, FIRST_S * 2.0 ** min(self.rounds, 10)) * random.uniform(0.5, 1.0)
            self.rounds += 1
        self._due_s = boottime_s() + wait_s

    # ---- answers ----------------------------------------------------------------------------------------------------

    def _hear(self) -> Answer | Failure | None:
        postgres = self._postgres
        assert postgres is not None
        try:
            self._flush(postgres)
            postgres.consume_input()
            busy = postgres.is_busy()  # takes in what the server says by itself, too
            if not busy and self._phase is _Phase.BUSY and self._has_ended(postgres):
                return self._take()
        except psycopg.Error as error:
            for result in self._results:
                _keeping(self._last_words)(result)
            self._lose(self._last_words[-1] if self._last_words else _of_text(str(error)))
            return None
        if self._phase is _Phase.BUSY and boottime_s() >= self._due_s:
            self._lose(Failure("", f"no answer within {REQUEST_S:.0f} s"))
        return None

    def _has_ended(self, postgres: pq.abc.PGconn) -> bool:
        """Whether all of the answer is there."""
        while not postgres.is_busy():
            result = postgres.get_result()
            if result is None:
                return True
            self._results.append(result)
        return False

    def _take(self) -> Answer | Failure | None:
        if not self._results:
            self._lose(Failure("", "the statement has ended without an answer"))
            return None
        result, self._results = self._results[-1], []
        if result.status == pq.ExecStatus.TUPLES_OK:
            self._phase, self.rounds, self._answered = _Phase.IDLE, 0, True
            columns = range(result.nfields)
            return Answer([tuple(result.get_value(row, c) for c in columns) for row in range(result.ntuples)])
        failure = _of_result(result)
        if _ends_connection(result):
            self._lose(failure)
            return None
        self._phase = _Phase.IDLE
        return failure

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _flush(self, postgres: pq.abc.PGconn) -> None:
        """Write what the socket takes, and wait for more room if there is more."""
        self._watch(READ | WRITE if postgres.flush() else READ)

    def _watch(self, events: int) -> None:
        """libpq may change its socket while it connects, also for one with the same number."""
        assert self._postgres is not None
        if self.up and events == self._wanted:
            return
        self._socket, self._wanted = self._postgres.socket, events
        self._descriptors.watch(self._socket, events)

    def _lose(self, failure: Failure) -> None:
        """End this connection, and connect again: soon, if this one has served."""
        served = self.up and self._answered
        self._drop()
        if served:
            self.failure, self._phase = failure, _Phase.WAITING
            self._due_s = boottime_s() + QUICK_S * random.uniform(0.5, 1.0)
        else:
            self._retry(failure)

    def _drop(self) -> None:
        if self._socket >= 0:
            self._descriptors.unwatch(self._socket)
        if self._postgres is not None:
            self._postgres.notice_handler = None
            self._postgres.finish()
        self._postgres, self._socket, self._wanted, self._results = None, -1, 0, []

    def _unwatch_names(self) -> None:
        if self._looking is not None:
            self._descriptors.unwatch(self._looking)
            self._looking = None


def _is_ready(fd: int, events: int) -> bool:
    poll = select.poll()
    poll.register(fd, events)  # the numbers of READ and WRITE are the same for poll(2)
    return bool(poll.poll(0))


def _keeping(last_words: deque[Failure]) -> Callable[[pq.abc.PGresult], None]:
    """A handler of notices, which are there only while it runs."""
    return lambda notice: last_words.append(_of_result(notice)) if _ends_connection(notice) else None


def _of_result(result: pq.abc.PGresult) -> Failure:
    """What the server says, in one line."""
    sqlstate = result.error_field(pq.DiagnosticField.SQLSTATE) or b""
    text = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace")
    return Failure(sqlstate.decode(errors="replace"), _line(text or result.get_error_message()))


def _of_text(text: str) -> Failure:
    """What libpq says."""
    return Failure("", _line(text))


def _ends_connection(result: pq.abc.PGresult) -> bool:
    return result.error_field(pq.DiagnosticField.SEVERITY_NONLOCALIZED) in (b"FATAL", b"PANIC")


def _line(text: str) -> str:
    return " ".join(text.split())
