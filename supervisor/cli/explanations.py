"""What causes and states mean to an operator, and what to do about them: tables for `preforkd why`. Data only.

docs/operations.md and docs/exits.md say the same at greater length; a test keeps every published word in here.
"""

from __future__ import annotations

from typing import NamedTuple

from supervisor.consumer.observe.traces import HELD, WAITING
from supervisor.ledger.base import RowState
from supervisor.logs.events import Cause
from supervisor.master.pool.exit_records import NO_FIRST_FRAME
from supervisor.scoreboard.words import OutcomeKind


class Explanation(NamedTuple):
    """What happened, and what to do next ("" for nothing). `{queue}` and `{id}` stand for a message's, `{letter}` for
    both as a command takes them.
    """

    means: str
    next: str = ""


CAUSES: dict[str, Explanation] = {
    Cause.CLEAN_STOP: Explanation("it was asked to exit, and had nothing unfinished"),
    Cause.RECYCLED: Explanation(
        "it had reached max_messages, max_age or max_memory, or user code had changed its process for good "
        "(`worker.spoiled`, `worker.failing` in the log), and was replaced"
    ),
    Cause.UNEXPECTED_EXIT: Explanation(
        "code called by the handler ended the process (exit, _exit, exec) with status 0",
        "find that call: a handler returns or raises",
    ),
    Cause.BOOT_FAILED: Explanation(
        "its boot failed: import, init, or a limit reached before the first message",
        "read the reason and the stack; `preforkd check` tests the same",
    ),
    Cause.TIMEOUT: Explanation(
        "its run did not end within its time limit",
        "read the stack: usually a call without a timeout of its own; else raise `timeout`",
    ),
    Cause.CRASH: Explanation(
        "it crashed: a fault in C code",
        "read the stack, update C extensions; `coredumpctl` may have more",
    ),
    Cause.KILLED: Explanation(
        "another program sent it a signal",
        "find the sender: other tools, a deployment, a person",
    ),
    Cause.OUT_OF_MEMORY: Explanation(
        "the kernel's out-of-memory killer ended it",
        "fewer workers or more memory; a smaller kill_memory lets preforkd act first",
    ),
    Cause.MEMORY_LIMIT: Explanation(
        "its memory grew past kill_memory during a message",
        "compare that message with others: is it larger? else raise kill_memory",
    ),
    Cause.STOP_KILLED: Explanation(
        "it did not finish before the end of a stop (stop_timeout, or `stop --now`)",
        "if this was not intended, raise stop_timeout above the longest run",
    ),
    Cause.LOST: Explanation(
        "it died with its master or after it, so no process could wait for it",
        "read the log before that moment: it shows why the master died",
    ),
    OutcomeKind.FAILED: Explanation("the handler raised", "read the stack; fix the cause"),
    OutcomeKind.RETRY: Explanation("the handler asked for another attempt (Retry)"),
    OutcomeKind.REJECT: Explanation("the handler rejected it for good (Reject)", "ask the handler's author"),
    OutcomeKind.SOFT_TIMEOUT: Explanation(
        "soft_timeout was over and the handler did not catch SoftTimeout",
        "read the stack: it shows the slow call; else raise soft_timeout",
    ),
    OutcomeKind.PUBLISH_FAILED: Explanation(
        "the handler returned, but the broker did not take its publications",
        "check that the exchange exists and that a queue is bound for that routing key",
    ),
    OutcomeKind.IN_DOUBT: Explanation("its worker died during the run: its effect may have happened or not"),
    "missing_id": Explanation('it has no id, and missing_id = "dead_letter"', "let the publisher set message_id"),
    "unreadable": Explanation(
        "its headers cannot be read, so it cannot be given to a handler",
        "check its publisher; the bytes are in x-preforkd-unreadable-headers, the body is complete",
    ),
    "expired": Explanation(
        "its time was over before a worker could begin it: max_wait of the pool, or its header x-preforkd-expires",
        "the reason has both times: too few workers, a pool that was away, or a clock that is wrong? "
        "`preforkd dead retry` runs it all the same",
    ),
    "host_lost": Explanation(
        "the host that had begun it was declared lost: its effect may have happened or not",
        "find out on that host, in its exits and its log, when it is back; `message.attempt` tells the handler",
    ),
    "unpublished": Explanation("the broker did not take its copy", "read the broker's log and alarms"),
}
"""By the cause of an exit, or of a failed run."""

CRASH_WITH_STATUS = Explanation(
    "the process exited by itself: user code called exit or raised KeyboardInterrupt, or (70, 1) preforkd failed",
    "the stack shows the call; without a stack look for os._exit, exec, or a C library that exits. A handler returns "
    "or raises",
)
"""Of a `crash` that has a status and no signal."""

CRASH_WITH_SIGKILL = Explanation(
    "preforkd ended it: it sent a frame that cannot be decoded",
    "look for code that closes or writes to descriptors it did not open",
)
"""Of a `crash` by SIGKILL, which no fault of the process itself can cause."""

WITHOUT_FIRST_FRAME = Explanation(
    "preforkd ended it at once: its first frame could not be sent",
    "check this machine's free memory, and the limits of the daemon's user (`ulimit -a`); the start is repeated",
)
"""Of a child to which its first frame could not be sent."""

STATES: dict[str, Explanation] = {
    WAITING: Explanation("delivered, and waiting for a free worker", "`preforkd status` shows what the workers do"),
    HELD: Explanation(
        "another host of the fleet has it in hand: it is not run here meanwhile, and claimed again each second",
        "`preforkd why` on that host shows what it does; `preforkd fleet status` shows whether that host is there",
    ),
    RowState.DISPATCHED: Explanation("given to a worker; its outcome is not known yet"),
    RowState.RETURNED: Explanation("requeued unstarted; it will be delivered again"),
    RowState.DONE: Explanation("done; a further delivery is acked without a run"),
    RowState.RETRY_PENDING: Explanation("failed; its copy for the next attempt is on its way to the broker"),
    RowState.RETRY: Explanation("failed; it waits in a delay queue, or in its queue, for the next attempt"),
    RowState.DEAD_PENDING: Explanation("given up; its copy is on its way to {queue}.dead"),
    RowState.DEAD: Explanation(
        "given up; its copy went to {queue}.dead",
        "fix the cause, then `preforkd dead retry {letter}` (or `dead drop`)",
    ),
    RowState.GONE: Explanation(
        "failed, and not known to be at the broker: it has not come back from its queue (another consumer may have "
        "it), or its copy for the next attempt is lost",
        "find out why {queue} or its delay queues were purged or deleted; if the message is needed, publish it again "
        "with the same id and content: it goes on with its next attempt",
    ),
    RowState.PARKED_PENDING: Explanation("set aside in doubt; its copy is on its way to {queue}.parked"),
    RowState.PARKED: Explanation(
        "set aside in doubt; its copy went to {queue}.parked",
        "find out whether its effect happened; then `preforkd dead drop --parked {letter}`, or `dead retry --parked`",
    ),
}
"""By the state of a message's trace (docs/control-protocol.md)."""

MISSING = Explanation(
    "failed, and has not come back from {queue}: its copy cannot be made before it comes; another consumer may have "
    "it, or the queue was purged",
    "the wait ends once {queue} has been empty for ten minutes, or by `preforkd pending drop {letter}`",
)
"""Of a message whose queue has not brought it back, whatever its state."""

POOLS: dict[str, Explanation] = {
    "starting": Explanation("some of its processes are not ready yet"),
    "ok": Explanation("it consumes, with all its workers"),
    "degraded": Explanation(
        "some of its children are held or keep dying, or its messages do not move",
        "remove the reason; held children are started again after hold_retry, or at once by `preforkd retry {pool}`",
    ),
    "held": Explanation(
        "nothing runs: too many deaths without progress, or a failed boot; its messages were requeued",
        "remove the reason; the next try comes after hold_retry, or at once by `preforkd retry {pool}`",
    ),
    "paused": Explanation("an operator has paused it: it consumes nothing", "`preforkd resume {pool}` ends the pause"),
    "stopping": Explanation("the daemon is being stopped"),
}
"""By the state of a pool in `status`."""

EXPECTED = frozenset({Cause.CLEAN_STOP.value, Cause.RECYCLED.value})
"""Causes of daily life: `why` looks past them for the last exit worth a look."""


def explain_ending(cause: str, status: int | None, signal: str | None, requested_by: str = "") -> Explanation:
    """The explanation of an exit or of a failed run, of these fields of its record: None or "" for what it has not."""
    if requested_by.startswith(NO_FIRST_FRAME):
        return WITHOUT_FIRST_FRAME
    if cause == Cause.CRASH and status is not None:
        return CRASH_WITH_STATUS
    if cause == Cause.CRASH and signal == "SIGKILL":
        return CRASH_WITH_SIGKILL
    return explain(CAUSES, cause)


def explain(table: dict[str, Explanation], word: str) -> Explanation:
    """The explanation of a word; the word itself where another version of the daemon has said it."""
    return table.get(word, Explanation(word))
