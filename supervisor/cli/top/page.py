"""The page of `top`: holds what is known of the daemon and of the screen, and lays it out when asked."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from supervisor.cli.top.frame import Notice, Scene, Size, frame, workers_page
from supervisor.cli.top.keys import Order, Screen, press
from supervisor.cli.top.lines import Line, Style
from supervisor.cli.top.view import Past, View, exit_rows, make_view
from supervisor.control.protocol import Facts, typed
from supervisor.control.results import Status
from supervisor.errors import StateError
from supervisor.exit_history import HistoryTail, Record
from supervisor.system.clock import monotonic_s

KEPT_EXITS = 200

_NOTICE_S = {Style.NOTE: 8.0, Style.BAD: 30.0}


class TopPage:
    """See the head of this file. `by`: who presses the keys; `keys`: whether there are any."""

    def __init__(self, state_dir: Path, by: str, keys: bool) -> None:
        self.over = False
        self._by = by
        self._keys = keys
        self._tail = HistoryTail(state_dir)
        self._records: deque[Record] = deque(maxlen=KEPT_EXITS)
        self._past = Past()
        self._view: View | None = None
        self._screen = Screen()
        self._trouble = ""
        self._notice: Notice | None = None
        self._notice_until_s = 0.0

    def heard(self, facts: Facts) -> None:
        """A new status: a new view. Raises ControlError for one of another version."""
        status = typed(facts, Status)
        self._trouble = ""
        self._read_exits()
        self._past.add(status)
        self._view = make_view(status, self._past, datetime.now(UTC))

    def missed(self, trouble: str) -> None:
        """The old view stays, and says that it is old."""
        self._trouble = trouble
        self._read_exits()

    def settled(self) -> None:
        """What was ordered is in the view now."""
        self._screen = replace(self._screen, wanted={})

    def pressed(self, key: str, size: Size) -> Order | None:
        """A key."""
        page = workers_page(self._scene(), size)
        self._screen, order = press(key, self._screen, self._view, self._by, page)
        self.over = self._screen.over
        if order is not None:
            self._notice = None
        return order

    def told(self, words: str) -> None:
        """An order was carried out."""
        self._say(Notice(words))

    def refused(self, words: str) -> None:
        """An order was not."""
        self._say(Notice(words, Style.BAD))

    def close(self) -> None:
        """Give back the exit history's file."""
        self._tail.close()

    def lines(self, size: Size) -> list[Line]:
        """The screen."""
        if self._notice is not None and monotonic_s() >= self._notice_until_s:
            self._notice = None
        return frame(self._scene(), size)

    def _scene(self) -> Scene:
        exits = exit_rows(self._records, datetime.now(UTC))
        return Scene(self._view, exits, self._screen, self._trouble, self._notice, self._keys)

    def _say(self, notice: Notice) -> None:
        self._notice = notice
        self._notice_until_s = monotonic_s() + _NOTICE_S[notice.style]

    def _read_exits(self) -> None:
        try:
            self._records.extend(self._tail.new())
        except StateError as error:
            self.refused(str(error))
