"""The loop of the hooks process: receives events from the master, runs one notification at a time, logs failures.

It never holds up the master, which drops and counts events that are not read in time. Everything here is bounded: the
queue of notifications, the tries of each, the time of a try.
"""

from __future__ import annotations

import logging
import socket
from collections import deque
from typing import Any

from supervisor.config.schema import HooksConfig
from supervisor.hooks.digest import Digest
from supervisor.hooks.job import WEBHOOK, Job, Notification, notifications
from supervisor.link.channel import Channel
from supervisor.link.child import understood
from supervisor.link.frames import Happened, Missed, Quit, Serving, SidecarOrder, StartSidecar
from supervisor.logs.events import Event
from supervisor.logs.redaction import without_path
from supervisor.logs.structured import log
from supervisor.system.clock import monotonic_s, rfc3339, wall_s
from supervisor.system.posix import signal_name
from supervisor.system.reactor import Reactor

MAX_QUEUED = 200
AGAIN = 75
"""EX_TEMPFAIL of sysexits.h: try again later."""

TRIES_AFTER_S = (1.0, 5.0, 25.0)
FAREWELL_S = 3.0
"""The time for the remaining notifications once the daemon has stopped."""

EVERY_S = 60.0
_LONGEST_SLEEP_S = 3600.0
_ADVICE = {"webhook": "look at the receiver, or correct webhook in [hooks]"}


class Hooks:
    """The state of the hooks process."""

    def __init__(self, start: StartSidecar, master: Channel[SidecarOrder]) -> None:
        self._config = start.hooks
        self._always = {"host": socket.gethostname(), "config": start.source}
        self._master = master
        self._reactor = Reactor()
        self._digest = Digest(start.hooks.rate)
        self._failures = FailureLog()
        self._queue: deque[Notification] = deque()
        self._later = 0
        self._job: Job | None = None
        self._leave_s = float("inf")

    def run(self) -> None:
        """Run until `Quit`, and up to `FAREWELL_S` longer. Raises ChannelClosed if the master is gone."""
        self._reactor.add_handler(self._master, lambda fd, events: None, self._reactor.READ)
        self._master.send(Serving(f"for {', '.join(_targets(self._config))}"))
        self._master.flush()
        while not self._over(monotonic_s()):
            self.turn()
        self._say_goodbye()

    def turn(self) -> None:
        """One pass: receive, sum up, kill a job at its limit, start the next. Raises ChannelClosed as `run`."""
        self._reactor.poll(min(max(0.0, self._due_s() - monotonic_s()), _LONGEST_SLEEP_S))
        now_s = monotonic_s()
        self._enqueue_sums(now_s)
        for order in self._master.receive():
            with understood(order):
                self._obey(order, now_s)
        self._master.confirm()
        if self._job is not None and now_s >= self._job.kill_due_s:
            self._job.kill()
        if self._job is None and self._queue:
            self._run(self._queue.popleft())

    def _due_s(self) -> float:
        kill_s = self._job.kill_due_s if self._job else 0.0 if self._queue else float("inf")
        return min(self._digest.due_s, kill_s, self._leave_s)

    # ---- what happened --------------------------------------------------------------------------------------------

    def _obey(self, order: SidecarOrder, now_s: float) -> None:
        match order:
            case Happened(hook, facts):
                if self._digest.admits(hook, facts, now_s):
                    self._enqueue(hook, facts)
            case Missed(counts):
                for hook, count in counts.items():
                    self._digest.missed(hook, count, now_s)
            case Quit():
                self._leave_s = now_s + FAREWELL_S
                self._enqueue_sums(float("inf"))

    def _enqueue_sums(self, now_s: float) -> None:
        for hook, facts in self._digest.take_sums(now_s):
            self._enqueue(hook, facts | {"at": rfc3339(wall_s())})

    def _enqueue(self, hook: str, facts: dict[str, Any]) -> None:
        for notification in notifications(self._config, hook, facts | self._always):
            if len(self._queue) + self._later < MAX_QUEUED:
                self._queue.append(notification)
            else:
                self._failures.note(notification.key, f"{MAX_QUEUED} deliveries wait already: this one is dropped", "")

    # ---- telling --------------------------------------------------------------------------------------------------

    def _run(self, notification: Notification) -> None:
        notification.tries += 1
        try:
            self._job = Job(notification, self._config.timeout_s, self._reactor, self._ended)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self._failures.note(notification.key, f"{notification.command[0]} cannot be run: {reason}", "")

    def _ended(self, job: Job) -> None:
        self._job = None
        notification = job.notification
        if job.status == 0 and not job.overdue:
            self._failures.heal(notification.key)
            return
        again = job.status == AGAIN or (job.overdue and notification.key == WEBHOOK)
        if again and notification.tries <= len(TRIES_AFTER_S):
            self._try_again(notification)
        else:
            self._failures.note(notification.key, self._ending(job), job.said)

    def _try_again(self, notification: Notification) -> None:
        def due() -> None:
            self._later -= 1
            self._queue.append(notification)

        self._later += 1
        self._reactor.call_later(TRIES_AFTER_S[notification.tries - 1], due)

    def _ending(self, job: Job) -> str:
        if job.overdue:
            how = f"did not end within {self._config.timeout_s:g} s and was killed"
        elif job.status < 0:
            how = f"was ended by {signal_name(-job.status)}"
        else:
            how = f"failed with status {job.status}"
        tries = f", {job.notification.tries} times" if job.notification.tries > 1 else ""
        return f"{how}{tries}"

    # ---- the end --------------------------------------------------------------------------------------------------

    def _over(self, now_s: float) -> bool:
        if self._leave_s == float("inf"):
            return False
        return now_s >= self._leave_s or (self._job is None and not self._queue)

    def _say_goodbye(self) -> None:
        if self._job is not None:
            self._job.kill()
        untold = len(self._queue) + self._later + (self._job is not None)
        if untold:
            text = f"{untold} event(s) were not reported: the daemon has stopped"
            log(Event.HOOK_FAILED, text, level=logging.WARNING, untold=untold)


def _targets(config: HooksConfig) -> list[str]:
    named = [name for name in ("on_exit", "on_hold", "on_dead") if getattr(config, name)]
    return [*named, *([without_path(config.webhook)] if config.webhook else [])]


class FailureLog:
    """Failed notifications in the log, at most one line a minute for each key of [hooks].

    For each key: the time of the last line, and the number of failures since without a line.
    """

    def __init__(self) -> None:
        self._said_s: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def note(self, key: str, reason: str, output: str) -> None:
        """Log or count a notification that failed for the last time. `key`: of [hooks]; `output`: of its program."""
        now_s = monotonic_s()
        if now_s - self._said_s.get(key, float("-inf")) < EVERY_S:
            self._unsaid[key] = self._unsaid.get(key, 0) + 1
            return
        self._said_s[key] = now_s
        unsaid = self._unsaid.pop(key, 0)
        more = f" ({unsaid} more failures since the last such line)" if unsaid else ""
        advice = _ADVICE.get(key, f"correct the command, or {key} in [hooks]")
        text = f"hooks.{key} {reason}{more}; the event is not reported: {advice}"
        log(Event.HOOK_FAILED, text, level=logging.WARNING, key=key, reason=reason, output=output, unsaid=unsaid)

    def heal(self, key: str) -> None:
        """Note a success of `key`: its next failure is logged at once, unless others are still uncounted in the log."""
        if not self._unsaid.get(key):
            self._said_s.pop(key, None)
