"""The screen of `top`, laid out for a width and a height. Pure; rich aligns, cuts and colours what this places.

Sections share the height: what there is no room for is said ("… 12 more workers"), never silently dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.text import Text

from supervisor.cli.console import shown
from supervisor.cli.top.columns import (
    BAD,
    DIM,
    EXITS,
    POOLS,
    TITLE,
    WARN,
    WORKERS,
    cause_style,
    connection_text,
    in_colour,
    joined,
    styled,
    table,
)
from supervisor.cli.top.keys import HELP, Notice, Screen
from supervisor.cli.top.view import PoolRow, View, brief_seconds

KEYS = "q quit  Tab pool  p pause  + - scale  r reload  ? help"

_COUNTERS = ("done", "retried", "dead", "parked", "duplicate", "returned")
_ROOMY = 16  # lines of the body from which on sections stand apart, and remarks have a line of their own
_SHORT = 14  # lines of a screen below which there are no exits, and notices replace the keys
_BLANK = styled("")


class Size(NamedTuple):
    """Of a screen, in cells."""

    width: int
    height: int


class Frame(NamedTuple):
    """What stands at the top of a screen, below it, and at the bottom."""

    head: Sequence[RenderableType]
    body: Sequence[RenderableType]
    bottom: Sequence[RenderableType]

    def filling(self) -> RenderableType:
        """The whole of a screen, with head and bottom in their places."""
        fixed = [Layout(Group(*part), size=len(part)) if part else None for part in (self.head, self.bottom)]
        layout = Layout()
        layout.split_column(*filter(None, [fixed[0], Layout(Group(*self.body)), fixed[1]]))
        return layout


def frame(screen: Screen, size: Size) -> Frame:
    """The screen at this size."""
    head, bottom = _head(screen, size.width), _bottom(screen, size)
    room = Size(size.width, max(0, size.height - len(head) - len(bottom)))
    pool = screen.selected
    body: Sequence[RenderableType]
    if screen.help:
        body = _help()
    elif screen.view is None:
        body = _exits(screen, room.width, room.height)
    elif pool is None:
        body = [styled("no pools yet"), _BLANK, *_exits(screen, room.width, room.height - 2)]
    else:
        body = _sections(screen, screen.view, pool, room)
    return Frame(head, body, bottom)


def workers_page(screen: Screen, size: Size) -> int:
    """How many workers are seen at once, for scrolling."""
    if screen.view is None or screen.selected is None:
        return 1
    height = size.height - len(_head(screen, size.width)) - len(_bottom(screen, size))
    return max(1, _share(screen, screen.view, screen.selected, Size(size.width, height)).workers - 2)


# ---- top and bottom -------------------------------------------------------------------------------------------------


def _head(screen: Screen, width: int) -> list[Text]:
    trouble = [styled(screen.trouble, BAD)] if screen.trouble else []
    if screen.view is None:
        return [joined([styled("preforkd", TITLE), styled("no answer", BAD)], "  "), *trouble]
    status = screen.view.status
    title = styled(f"preforkd {status.version}  pid {status.pid}", TITLE)
    first = joined([title, in_colour(status.state), styled(f"up {brief_seconds(status.uptime_s)}")], "  ")
    config = styled(status.config or "no configuration file", DIM)
    gap = width - first.cell_len - config.cell_len
    if gap >= 2:
        first.append(" " * gap).append_text(config)
    events = [joined(styled(text, WARN) for text in screen.view.events)] if screen.view.events else []
    return [first, *trouble, *events]


def _bottom(screen: Screen, size: Size) -> list[Text]:
    keys = [styled(KEYS, DIM)] if screen.keys else []
    says = Notice(screen.question.text, WARN) if screen.question else screen.notice
    said = _wrapped(says, size) if says else []
    if size.height < _SHORT:
        return said or keys
    return [*(said or [_BLANK]), *keys] if screen.keys or says else []


def _wrapped(notice: Notice, size: Size) -> list[Text]:
    """A notice in as many lines as it needs, but never more than a quarter of the screen."""
    most = max(1, size.height // 4)
    rows = wrap(shown(notice.text), max(1, size.width), max_lines=most, placeholder="…")
    return [styled(row, notice.style) for row in rows]


def _help() -> list[Text]:
    width = max(len(name) for name, _text in HELP)
    return [
        _BLANK,
        *(joined([styled(f"  {name:{width}}", TITLE), styled(text)], "  ") for name, text in HELP),
        _BLANK,
        styled("  DONE/S, FAIL/S, MSG/S are taken over the last 5 seconds. FLIGHT: delivered and not settled;"),
        styled("  READY: still in the queue. A * beside a limit: the message's own, or extended. Workers: busy first."),
        _BLANK,
        styled("  any key: back", DIM),
    ]


# ---- sections -------------------------------------------------------------------------------------------------------


class _Share(NamedTuple):
    """Lines for each section; titles count, the gap above a section does not."""

    pools: int
    details: int
    workers: int
    exits: int
    gap: int


def _share(screen: Screen, view: View, pool: PoolRow, size: Size) -> _Share:
    """Pools and exits get their part, workers the rest; what they leave goes to the exits."""
    width, room = size
    gap = int(room >= _ROOMY)
    pools = min(len(view.pools), max(1, room // 5)) + 1
    details = 0 if room < 6 else len(_details(pool, width)) if gap else 1
    left = room - pools - details - gap
    if room < _SHORT - 4:
        return _Share(pools, details, max(0, left), 0, gap)
    least = min(len(screen.exits) + 1, max(3, room // 4))
    workers = min(len(pool.workers) + 1, max(3, left - gap - least))
    return _Share(pools, details, workers, max(0, left - gap - workers), gap)


def _sections(screen: Screen, view: View, pool: PoolRow, size: Size) -> list[RenderableType]:
    share, width = _share(screen, view, pool, size), size.width
    gap = [_BLANK] * share.gap
    sections: list[RenderableType] = [*_pools(view, pool, width, share.pools), *_details(pool, width)[: share.details]]
    sections += [*gap, *_workers(pool, screen.scroll, width, share.workers)]
    return [*sections, *gap, *_exits(screen, width, share.exits)] if share.exits > 1 else sections


def _pools(view: View, picked: PoolRow, width: int, room: int) -> list[RenderableType]:
    """As many as there is room for, with the picked one among them."""
    count, at = len(view.pools), view.pools.index(picked)
    rows = room - 1 if count < room else max(1, room - 2)
    first = min(max(0, at - rows + 1), max(0, count - rows))
    mark = at - first if count > 1 else -1
    return [table(POOLS, view.pools[first : first + rows], width, picked=mark), *_more(count - rows, "pools")]


def _details(pool: PoolRow, width: int) -> list[Text]:
    """What the table of pools may have had no room for; first what is most urgent."""
    where = [styled(f"queue {pool.status.queue}", TITLE), connection_text(pool.connection)]
    counters = pool.status.counters
    counts = [styled(f"{counters[what]} {what}") for what in _COUNTERS if what in counters]
    facts = [joined([*where, *counts])]
    if facts[0].cell_len > width:
        facts = [joined(where), joined(counts)]
    remarks = [joined(styled(remark, WARN) for remark in pool.remarks)] if pool.remarks else []
    return facts + remarks if pool.status.state == "ok" else remarks + facts


def _workers(pool: PoolRow, scroll: int, width: int, room: int) -> list[RenderableType]:
    if room < 2:
        return []
    count = len(pool.workers)
    first = min(scroll, max(0, count - (room - 2)))
    rows = room - 1 if count < room else max(1, room - 2)
    where = f" ({first} of them above)" if first else ""
    shown_workers = pool.workers[first : first + rows]
    return [table(WORKERS, shown_workers, width), *_more(count - len(shown_workers), "workers", where)]


def _exits(screen: Screen, width: int, room: int) -> list[RenderableType]:
    """The counts of all exits by cause as a title, and the last ones below: their cells need no titles."""
    if room < 2:
        return []
    tally = screen.view.tally if screen.view else ()
    counts = joined(styled(f"{cause} {count}", cause_style(cause)) for cause, count in tally)
    title = joined([styled("EXITS", TITLE), counts if tally else styled("none on record")], "  ")
    return [title, table(EXITS, screen.exits[: room - 1], width, titles=False)]


def _more(count: int, what: str, where: str = "") -> list[Text]:
    return [styled(f"… {count} more {what}{where}", DIM)] if count > 0 else []
