"""The pages of live views: what is known of the daemon and of the screen, laid out when asked."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import OverflowMethod

from supervisor.cli.top.columns import BAD, DIM, NOTE, styled
from supervisor.cli.top.frame import Frame, Size, frame, workers_page
from supervisor.cli.top.keys import Notice, Order, Screen, press
from supervisor.cli.top.view import Past, exit_rows, make_view
from supervisor.control.protocol import Facts, typed
from supervisor.control.results import Status
from supervisor.errors import StateError
from supervisor.exit_history import HistoryTail, Record
from supervisor.system.clock import monotonic_s

KEPT_EXITS = 200

_NOTICE_S = {NOTE: 8.0, BAD: 30.0}


class StatusPage:
    """The page of `status --watch`: what `draw` prints, new each time. `cut`: there is a screen, so only what fits."""

    def __init__(self, draw: Callable[[Facts], str], cut: bool) -> None:
        self._draw = draw
        self._cut = cut
        self._shown = ""
        self._trouble = ""

    def heard(self, facts: Facts) -> None:
        """A new status. Raises ControlError for one of another version."""
        self._shown, self._trouble = self._draw(facts), ""

    def missed(self, trouble: str) -> None:
        """The old one stays, below the reason."""
        self._trouble = trouble

    def draw(self, size: Size) -> Frame:
        """As much as fits where there is a screen; all of it elsewhere."""
        overflow: OverflowMethod = "ellipsis" if self._cut else "ignore"
        head = [styled(self._trouble, BAD, overflow)] if self._trouble else []
        lines = [styled(text, overflow=overflow) for text in self._shown.splitlines()]
        more = len(head) + len(lines) - size.height if self._cut else 0
        if more > 0:
            lines[-more - 1 :] = [styled(f"… {more + 1} more lines", DIM)]
        return Frame(head, lines, ())


class TopPage:
    """The page of `top`. `by`: who presses the keys; `keys`: whether there are any."""

    def __init__(self, state_dir: Path, by: str, keys: bool) -> None:
        self._by = by
        self._tail = HistoryTail(state_dir)
        self._records: deque[Record] = deque(maxlen=KEPT_EXITS)
        self._past = Past()
        self._screen = Screen(keys=keys)

    @property
    def over(self) -> bool:
        """Whether the user has quit."""
        return self._screen.over

    def heard(self, facts: Facts) -> None:
        """A new status: a new view. Raises ControlError for one of another version."""
        status = typed(facts, Status)
        self._past.add(status)
        self._screen = replace(self._screen, view=make_view(status, self._past, datetime.now(UTC)), trouble="")
        self._read_exits()

    def missed(self, trouble: str) -> None:
        """The old view stays, and says that it is old."""
        self._screen = replace(self._screen, trouble=trouble)
        self._read_exits()

    def settled(self) -> None:
        """What was ordered is in the view now."""
        self._screen = replace(self._screen, wanted={})

    def pressed(self, key: str, size: Size) -> Order | None:
        """A key."""
        self._screen, order = press(key, self._screen, self._by, workers_page(self._screen, size))
        if order is not None:
            self._screen = replace(self._screen, notice=None)
        return order

    def say(self, words: str, style: str = NOTE) -> None:
        """What the daemon has answered to an order, or (BAD) why it was not carried out."""
        self._screen = replace(self._screen, notice=Notice(words, style, monotonic_s() + _NOTICE_S[style]))

    def close(self) -> None:
        """Give back the exit history's file."""
        self._tail.close()

    def draw(self, size: Size) -> Frame:
        """The screen."""
        notice = self._screen.notice
        if notice is not None and monotonic_s() >= notice.until_s:
            notice = None
        self._screen = replace(self._screen, notice=notice, exits=exit_rows(self._records, datetime.now(UTC)))
        return frame(self._screen, size)

    def _read_exits(self) -> None:
        try:
            self._records.extend(self._tail.new())
        except StateError as error:
            self.say(str(error), BAD)
