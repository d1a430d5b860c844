"""What causes and states mean to an operator, and what to do about them: tables for `preforkd why`. Data only.

docs/operations.md and docs/exits.md say the same at greater length; a test keeps every published word in here.
"""

from __future__ import annotations

from typing import NamedTuple

from supervisor.consumer.observe.traces import WAITING
from supervisor.ledger.base import RowState
from supervisor.logs.events import Cause
from supervisor.master.exits.records import NO_FIRST_FRAME
from supervisor.scoreboard.words import OutcomeKind


class Explanation(NamedTuple):
    """What happened, and what to do next ("" for nothing). `{queue}` and `{id}` stand for a message's, `{letter}` for
    both as a command takes them.
    """

    means: str
    next: str = ""


CAUSES: dict[str, Explanation] = {
    Cause.CLEAN_STOP: Explanation("it was asked to leave, and left with nothing unfinished"),
    Cause.RECYCLED: Explanation(
        "it had reached max_messages, max_age or max_memory, or user code had spoiled its process (`worker.spoiled`, "
        "`worker.failing` in the log), and was replaced"
    ),
    Cause.UNEXPECTED_EXIT: Explanation(
        "code that the handler called ended the process (exit, _exit, exec) as if all were well",
        "find that call: a handler returns or raises",
    ),
    Cause.BOOT_FAILED: Explanation(
        "it could not begin: import, init or a limit that it broke before any message",
        "read the reason and the stack; `preforkd check` tries the same",
    ),
    Cause.TIMEOUT: Explanation(
        "it was still at it when its time limit was over",
        "read the stack: usually a call without a timeout of its own; else raise `timeout`",
    ),
    Cause.CRASH: Explanation(
        "it crashed: a fault in C code",
        "read the stack, update C extensions; `coredumpctl` may have more",
    ),
    Cause.KILLED: Explanation(
        "somebody outside preforkd sent it a signal",
        "find out who: other tools, a deployment, a person",
    ),
    Cause.OUT_OF_MEMORY: Explanation(
        "the kernel's out-of-memory killer took it",
        "fewer workers or more memory; a smaller kill_memory lets preforkd act first",
    ),
    Cause.MEMORY_LIMIT: Explanation(
        "it grew past kill_memory in mid-message",
        "look at that message: is it larger than others? else raise kill_memory",
    ),
    Cause.STOP_KILLED: Explanation(
        "a stop had no more time for it (stop_timeout, or `stop --now`)",
        "raise stop_timeout above the longest run, if this was none of your doing",
    ),
    Cause.LOST: Explanation(
        "it died with its master, or after it: nobody could wait for it",
        "read the log before that moment: why did the master die?",
    ),
    OutcomeKind.FAILED: Explanation("the handler raised", "read the stack; fix the cause"),
    OutcomeKind.RETRY: Explanation("the handler asked for another attempt (Retry)"),
    OutcomeKind.REJECT: Explanation("the handler rejected it for good (Reject)", "ask the handler's author"),
    OutcomeKind.SOFT_TIMEOUT: Explanation(
        "soft_timeout was over and the handler let SoftTimeout through",
        "read the stack: what takes so long? else raise soft_timeout",
    ),
    OutcomeKind.PUBLISH_FAILED: Explanation(
        "the handler was done, but the broker did not take what it published",
        "does the exchange exist, is a queue bound for that routing key?",
    ),
    OutcomeKind.IN_DOUBT: Explanation("its worker died in mid-run: nobody knows whether its effect happened"),
    "missing_id": Explanation('it has no id, and missing_id = "dead_letter"', "let the publisher set message_id"),
    "unreadable": Explanation(
        "its headers cannot be read, so that no handler could be given it",
        "look at its publisher; the bytes are in x-preforkd-unreadable-headers, the body is whole",
    ),
    "unpublished": Explanation("the broker did not take its copy", "look at the broker's log and alarms"),
}
"""By the cause of an exit, or of a failed run."""

CRASH_WITH_STATUS = Explanation(
    "the process ended itself: user code called exit or raised KeyboardInterrupt, or (70, 1) the process failed",
    "the stack shows the call; without a stack look for os._exit, exec, or a C library that exits. A handler returns "
    "or raises",
)
"""Of a `crash` that has a status and no signal."""

CRASH_WITH_SIGKILL = Explanation(
    "preforkd ended it: what it sent cannot be understood",
    "look for code that closes or writes to descriptors it did not open",
)
"""Of a `crash` by SIGKILL, which no fault of the process itself can cause."""

WITHOUT_FIRST_FRAME = Explanation(
    "preforkd ended it at once: the system call failed that tells a new process what it is",
    "look at this machine's free memory, and at the limits of the daemon's user (`ulimit -a`); it is tried again",
)
"""Of a child to which its first frame could not be sent."""

STATES: dict[str, Explanation] = {
    WAITING: Explanation("delivered, and waiting for a free worker", "`preforkd status` shows what the workers do"),
    RowState.DISPATCHED: Explanation("given to a worker; how it ended is not known yet"),
    RowState.RETURNED: Explanation("given back to its queue unstarted; it will be delivered again"),
    RowState.DONE: Explanation("done; should it be delivered again, it is acked without a run"),
    RowState.RETRY_PENDING: Explanation("failed; its copy for the next attempt is on its way to the broker"),
    RowState.RETRY: Explanation("failed; it waits in a delay queue, or in its queue, for the next attempt"),
    RowState.DEAD_PENDING: Explanation("given up; its copy is on its way to {queue}.dead"),
    RowState.DEAD: Explanation(
        "given up; its copy went to {queue}.dead",
        "fix the cause, then `preforkd dead retry {letter}` (or `dead drop`)",
    ),
    RowState.GONE: Explanation(
        "failed, and is at the broker no more: it has not come back from its queue, or its copy for the next attempt "
        "is lost",
        "ask who purged or deleted {queue} or its delay queues; if the message is needed, publish it again with the "
        "same id and content: it goes on where it was",
    ),
    RowState.PARKED_PENDING: Explanation("set aside in doubt; its copy is on its way to {queue}.parked"),
    RowState.PARKED: Explanation(
        "set aside in doubt; its copy went to {queue}.parked",
        "look whether its effect happened; then `preforkd dead drop --parked {letter}`, or `dead retry --parked`",
    ),
}
"""By the state of a message's trace (docs/control-protocol.md)."""

POOLS: dict[str, Explanation] = {
    "starting": Explanation("not everybody is up yet"),
    "ok": Explanation("it consumes, with all its workers"),
    "degraded": Explanation(
        "a part of it is held or keeps dying, or nothing moves although something could",
        "remove the reason; what is held is tried again every hold_retry, or at once by `preforkd retry {pool}`",
    ),
    "held": Explanation(
        "nothing runs: too many deaths without progress, or a boot that fails; what it had was given back to the queue",
        "remove the reason; it is tried again every hold_retry, or at once by `preforkd retry {pool}`",
    ),
    "paused": Explanation("somebody has paused it: nothing is consumed", "`preforkd resume {pool}` goes on"),
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
