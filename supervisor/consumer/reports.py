"""Reports of the consumer to its master: frames at once, a snapshot for `status` on change, at most every 250 ms.

A master that does not read (stopped, busy) must not fill the consumer's memory: what it will ask for again, or what
the next frame of its kind replaces, is left out while too much waits.
"""

from __future__ import annotations

import msgspec

from supervisor.consumer.session import Session
from supervisor.link.channel import Channel
from supervisor.link.consumer_state import ConnectionStatus, Measurements, QueueStatus
from supervisor.link.frames import ConsumerOrder, ConsumerReport, ExitNoticeTaken, Found, Snapshot
from supervisor.logs.events import Event
from supervisor.symptoms import Symptom
from supervisor.system.clock import monotonic_s, wall_s

INTERVAL_S = 0.25
MAX_PENDING_BYTES = 256 * 1024

_LEFT_OUT = (ExitNoticeTaken, Found)
"""The master repeats an exit notice until it is taken, and does not wait for a late answer."""


class Reports:
    """The way to the master."""

    def __init__(self, master: Channel[ConsumerOrder]) -> None:
        self._master = master
        self._shown: Snapshot | None = None
        self._shown_s = 0.0
        self._owed = False  # something may have changed since, too soon after the last snapshot

    def say(self, *reports: ConsumerReport) -> None:
        """Send frames with the turn's flush; those that can be spared only while there is room."""
        for report in reports:
            if self.has_room or not isinstance(report, _LEFT_OUT):
                self._master.send(report)

    @property
    def has_room(self) -> bool:
        """Whether the master takes what is said."""
        return self._master.pending_bytes < MAX_PENDING_BYTES

    def flush(self) -> None:
        """Write what was said; the rest leaves in a later turn."""
        self._master.flush()

    def show(self, session: Session, now: bool = False) -> None:
        """Send a snapshot if there is something new in it. `now`: however soon after the last one, as the next frames
        need it there."""
        self._owed = monotonic_s() - self._shown_s < INTERVAL_S or self._master.pending_bytes > 0
        if now or not self._owed:
            self._show(session.snapshot())

    @property
    def due_in_s(self) -> float | None:
        """When `show` must be called again even if nothing happens; None: not before something does."""
        if not self._owed:
            return None
        left_s = self._shown_s + INTERVAL_S - monotonic_s()
        return left_s if left_s > 0.0 else INTERVAL_S  # the master is late: look again in a while

    def troubled(self, event: Event, text: str) -> None:
        """There is no session: say why. The event is logged already."""
        shown = self._shown or Snapshot(0.0, ConnectionStatus(), QueueStatus(), {}, 0, [], Measurements())
        former = next((each for each in shown.symptoms if each.name == event), None)
        symptom = Symptom(str(event), text, True, former.since if former else wall_s())
        closed = ConnectionStatus(state="closed", why=text)
        self._show(Snapshot(0.0, closed, QueueStatus(), shown.counters, 0, [symptom], shown.measures))

    def _show(self, snapshot: Snapshot) -> None:
        self._shown_s = monotonic_s()
        if self._shown is None or _content(snapshot) != _content(self._shown):
            self._shown = msgspec.structs.replace(snapshot, at=wall_s())
            self.say(self._shown)


def _content(snapshot: Snapshot) -> Snapshot:
    """All that is news: the age of the connection alone is not."""
    return msgspec.structs.replace(
        snapshot, at=0.0, connection=msgspec.structs.replace(snapshot.connection, since_s=0.0)
    )
