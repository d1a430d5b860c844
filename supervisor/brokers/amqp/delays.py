"""Publishes messages with a delay: into the delay queue of their queue and step, which is declared where it is missing.

Runs in a client's thread, over the publishing connection. The queues are those of the consumer (`queues.delay_queue`),
so whichever of the two comes first makes the same queue (docs/decisions/0003-delay-queues-on-demand.md). The queue that
a message comes back to must exist: otherwise a wrong name would keep messages in a delay queue for ever.
"""

from __future__ import annotations

import logging
import re
import shlex

import msgspec
import pika

from supervisor.brokers.amqp.declarer import Declarer, Permit, QueueFindings
from supervisor.brokers.amqp.errors import ACCESS_REFUSED, Trouble
from supervisor.brokers.amqp.publisher import Publisher
from supervisor.brokers.amqp.questions import QueryChannel, Questions, Refusal, declare
from supervisor.brokers.amqp.queues import QueuePlan, delay_queue
from supervisor.brokers.base import Declared, Held, Outgoing, Unsafe
from supervisor.messages.message import Publication
from supervisor.system.clock import monotonic_s
from supervisor.system.reactor import Reactor

_NOT_FOUND = 404
_LOOK_AGAIN_S = 0.5
"""Failures in a row cause one look for the queues in this time."""

_log = logging.getLogger("preforkd.client")


class DelayQueues:
    """The delay queues of all queues that one connection publishes to. Each publication gets its fate from `publisher`,
    or from here by `publisher.tell_unpublished`.
    """

    def __init__(self, reactor: Reactor, connection: pika.SelectConnection, publisher: Publisher) -> None:
        self._connection = connection
        self._publisher = publisher
        self._findings = QueueFindings("", self._tell)
        self._declarer = Declarer(connection, Permit(reactor, None), self._findings, self._explained)
        self._targets = QueryChannel(connection)
        self._found: set[str] = set()
        self._waiting: dict[str, list[tuple[int, Publication]]] = {}
        self._failures = publisher.failures
        self._doubted_s = monotonic_s()

    def publish(self, outgoing: Outgoing) -> None:
        """Publish once both queues are known to be there."""
        plan = delay_queue(outgoing.routing_key, outgoing.delay_s)
        publication = Publication("", plan.name, outgoing.properties, outgoing.body)
        self._doubt()
        if plan.name in self._found:
            self._publisher.publish(outgoing.token, publication)
            return
        waiting = self._waiting.setdefault(plan.name, [])
        waiting.append((outgoing.token, publication))
        if len(waiting) == 1:
            self._targets.ask(_exists(plan.comes_back_to), lambda found: self._asked(plan, found))

    def close(self) -> None:
        """Report the waiting publications as lost: the connection has ended."""
        self._declarer.close()
        for name in list(self._waiting):
            self._fail(name, "the connection ended", lost=True)

    def _doubt(self) -> None:
        """Where something was refused since, look for each queue again, but not all the time."""
        if self._publisher.failures != self._failures and monotonic_s() - self._doubted_s >= _LOOK_AGAIN_S:
            self._failures, self._doubted_s = self._publisher.failures, monotonic_s()
            self._found.clear()

    def _asked(self, plan: QueuePlan, found: bool) -> None:
        if found:
            self._declarer.ensure([plan], lambda trouble: self._looked(plan.name, trouble))
        else:
            reason = f"there is no queue {plan.comes_back_to!r} to which it could go after its delay"
            self._fail(plan.name, reason, absent=True, unroutable=True)

    def _looked(self, name: str, trouble: Trouble | None) -> None:
        if trouble is not None:
            self._fail(name, trouble.reason, absent=True)
            return
        self._findings.tell()
        self._found.add(name)
        for token, publication in self._waiting.pop(name, []):
            self._publisher.publish(token, publication)

    def _fail(self, name: str, reason: str, **facts: bool) -> None:
        for token, _ in self._waiting.pop(name, []):
            self._publisher.tell_unpublished(token, reason, **facts)

    def _explained(self, trouble: Trouble) -> Trouble:
        """`trouble`, and where it is a missing right the command that gives it."""
        if trouble.code != ACCESS_REFUSED:
            return trouble
        account = self._connection.params
        queues = "|".join(sorted(re.escape(name) for name in self._waiting))
        patterns = (f"^({queues})$", f"^(amq\\.default|{queues})$", f"^({queues})$")
        words = (account.virtual_host, account.credentials.username, *patterns)
        command = f"rabbitmqctl set_permissions -p {' '.join(map(shlex.quote, words))}"
        advice = f"{command} (it replaces the patterns that the user has: keep those it needs)"
        return msgspec.structs.replace(trouble, reason=f"{trouble.reason}; give it with: {advice}")

    def _tell(self, finding: Declared | Held | Unsafe) -> None:
        for remark in finding.remarks if isinstance(finding, Unsafe) else ():
            _log.warning("%s", remark)


def _exists(queue: str) -> Questions:
    """Whether there is such a queue; True also where the broker does not tell: the publication itself will."""
    answer = yield declare(queue, passive=True)
    return not (isinstance(answer, Refusal) and answer.reply_code == _NOT_FOUND)
