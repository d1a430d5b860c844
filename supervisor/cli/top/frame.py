"""The screen as lines: the view and the state of the screen, laid out for a width and a height. Pure.

Sections share the height: what there is no room for is said ("… 12 more workers"), never silently dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from textwrap import wrap
from typing import NamedTuple

from supervisor.cli.console import shown
from supervisor.cli.top.cells import EXITS, POOLS, WORKERS, cause_style, connection_text, state_style
from supervisor.cli.top.keys import HELP, Screen
from supervisor.cli.top.lines import ELLIPSIS, Line, Span, Style, cells, fitted, joined, line, padded, text_of
from supervisor.cli.top.table import table
from supervisor.cli.top.view import ExitRow, PoolRow, View, brief_seconds

KEYS = "q quit  Tab pool  p pause  + - scale  r reload  ? help"

_ROOMY = 20  # lines from which on sections stand apart, and remarks have a line of their own
_SHORT = 14  # lines below which there are no exits, and notices replace the keys


class Size(NamedTuple):
    """Of a screen, in cells."""

    width: int
    height: int


class Notice(NamedTuple):
    """What the status line says."""

    text: str
    style: Style = Style.NOTE


@dataclass(frozen=True)
class Scene:
    """Everything that is on a screen."""

    view: View | None
    exits: tuple[ExitRow, ...]
    """Shown even where no daemon is: why it has gone may stand there."""
    screen: Screen = field(default_factory=Screen)
    trouble: str = ""
    """Why the view is not of now, or is not there."""
    notice: Notice | None = None
    keys: bool = True


def frame(scene: Scene, size: Size) -> list[Line]:
    """At most `size.height` lines of at most `size.width` cells."""
    bottom = _bottom(scene, size)
    top = _head(scene, size.width)
    room = max(0, size.height - len(top) - len(bottom))
    if scene.screen.help:
        body = _help()
    elif scene.view is None:
        body = _exits(scene.exits, (), size.width, room)
    else:
        body = _body(scene.view, scene.screen, scene.exits, Size(size.width, room))
    body = body[:room]
    blank = [()] * (room - len(body))
    return [fitted(each, size.width) for each in [*top, *body, *blank, *bottom]][: size.height]


def workers_page(scene: Scene, size: Size) -> int:
    """How many workers are seen at once, for scrolling."""
    pool = scene.view.pool(scene.screen.pool) if scene.view else None
    if scene.view is None or pool is None:
        return 1
    room = size.height - len(_head(scene, size.width)) - len(_bottom(scene, size))
    return max(1, _share(scene.view, pool, len(scene.exits), Size(size.width, room)).workers - 2)


# ---- top and bottom -------------------------------------------------------------------------------------------------


def _head(scene: Scene, width: int) -> list[Line]:
    view = scene.view
    trouble = [line(Span(scene.trouble, Style.BAD))] if scene.trouble else []
    if view is None:
        return [line(Span("preforkd", Style.TITLE), "  ", Span("no answer", Style.BAD)), *trouble]
    state = Span(view.state, state_style(view.state))
    first = line(Span(view.title, Style.TITLE), "  ", state, f"  up {brief_seconds(view.uptime_s)}")
    left = width - sum(cells(span.text) for span in first) - 2
    where = (Span("  " + padded(view.config, left, right=True), Style.DIM),) if left >= cells(view.config) else ()
    events = [joined(Span(text, Style.WARN) for text in view.events)] if view.events else []
    return [first + where, *trouble, *events]


def _bottom(scene: Scene, size: Size) -> list[Line]:
    keys = [line(Span(KEYS, Style.DIM))] if scene.keys else []
    says = scene.notice
    if scene.screen.question is not None:
        says = Notice(scene.screen.question.text, Style.WARN)
    said = _wrapped(says, size) if says else []
    if size.height < _SHORT:
        return said or keys
    return [*(said or [()]), *keys] if scene.keys or says else []


def _wrapped(notice: Notice, size: Size) -> list[Line]:
    """A notice in as many lines as it needs, but never more than a quarter of the screen."""
    most = max(1, size.height // 4)
    rows = wrap(shown(notice.text), max(1, size.width), max_lines=most, placeholder=ELLIPSIS)
    return [line(Span(row, notice.style)) for row in rows]


def _help() -> list[Line]:
    width = max(len(name) for name, _text in HELP)
    keys = [line(Span(f"  {padded(name, width)}  ", Style.TITLE), text) for name, text in HELP]
    return [
        (),
        *keys,
        (),
        line("  DONE/S, FAIL/S, MSG/S are taken over the last 5 seconds. FLIGHT: delivered and not settled;"),
        line("  READY: still in the queue. A * beside a limit: the message's own, or extended. Workers: busy first."),
        (),
        line(Span("  any key: back", Style.DIM)),
    ]


# ---- sections -------------------------------------------------------------------------------------------------------


class _Share(NamedTuple):
    """Lines for each section; titles count, the gap above a section does not."""

    pools: int
    details: int
    workers: int
    exits: int
    gap: int


def _share(view: View, pool: PoolRow, exits: int, size: Size) -> _Share:
    """Pools and exits get their part, workers the rest; what they leave goes to the exits."""
    width, room = size
    roomy = room >= _ROOMY - 4
    gap = int(roomy)
    pools = min(len(view.pools), max(1, room // 5)) + 1
    details = 0 if room < 6 else len(_details(pool, width)) if roomy else 1
    left = room - pools - details - gap
    if room < _SHORT - 4:
        return _Share(pools, details, max(0, left), 0, gap)
    least = min(exits + 1, max(3, room // 4))
    workers = min(len(pool.workers) + 1, max(3, left - gap - least))
    return _Share(pools, details, workers, max(0, left - gap - workers), gap)


def _body(view: View, screen: Screen, exits: Sequence[ExitRow], size: Size) -> list[Line]:
    pool = view.pool(screen.pool)
    if pool is None:
        return [line("no pools yet"), (), *_exits(exits, view.tally, size.width, size.height - 2)]
    share = _share(view, pool, len(exits), size)
    gap: list[Line] = [()] * share.gap
    lines = [*_pools(view, pool, size.width, share.pools), *_details(pool, size.width)[: share.details], *gap]
    lines += _workers(pool, screen.scroll, size.width, share.workers)
    if share.exits > 1:
        lines += [*gap, *_exits(exits, view.tally, size.width, share.exits)]
    return lines


def _pools(view: View, picked: PoolRow, width: int, room: int) -> list[Line]:
    at = view.pools.index(picked)
    first, shown, more = _window(len(view.pools), room - 1, at)
    title, *rows = table(POOLS, view.pools[first : first + shown], width)
    if len(view.pools) > 1:
        rows[at - first] = tuple(Span(span.text, Style.PICKED) for span in rows[at - first])
    return [title, *rows, *_said(more, "pools")]


def _details(pool: PoolRow, width: int) -> list[Line]:
    """What the table of pools may have had no room for; first what is most urgent."""
    where = [Span(f"queue {pool.queue}", Style.TITLE), connection_text(pool.connection)]
    counts = [f"{pool.counters[what]} {what}" for what in _COUNTERS if what in pool.counters]
    facts = [joined([*where, *counts])]
    if cells(text_of(facts[0])) > width:
        facts = [joined(where), joined(counts)]
    remarks = [joined(Span(remark, Style.WARN) for remark in pool.remarks)] if pool.remarks else []
    return facts + remarks if pool.state == "ok" else remarks + facts


_COUNTERS = ("done", "retried", "dead", "parked", "duplicate", "returned")


def _workers(pool: PoolRow, scroll: int, width: int, room: int) -> list[Line]:
    if room < 2:
        return []
    last_page = max(0, len(pool.workers) - (room - 2))
    first = min(scroll, last_page)
    shown = room - 1 if len(pool.workers) <= room - 1 else max(1, room - 2)
    rows = pool.workers[first : first + shown]
    more = len(pool.workers) - len(rows)
    above = f" ({first} of them above)" if first else ""
    return [*table(WORKERS, rows, width), *_said(more, "workers", above)][:room]


def _exits(exits: Sequence[ExitRow], tally: Sequence[tuple[str, int]], width: int, room: int) -> list[Line]:
    """The counts of all exits by cause as a title, and the last ones below: their cells need no titles."""
    if room < 2:
        return []
    counts = joined(Span(f"{cause} {count}", cause_style(cause)) for cause, count in tally)
    title = (Span("EXITS  ", Style.TITLE), *(counts or line("none on record")))
    return [title, *table(EXITS, exits[: room - 1], width)[1:]]


def _window(count: int, room: int, at: int) -> tuple[int, int, int]:
    """Which of `count` rows are shown in `room` lines so that `at` is among them: first, how many, how many not."""
    if count <= room:
        return 0, count, 0
    shown = max(1, room - 1)
    first = min(max(0, at - shown + 1), count - shown)
    return first, shown, count - shown


def _said(more: int, what: str, where: str = "") -> list[Line]:
    return [line(Span(f"… {more} more {what}{where}", Style.DIM))] if more else []
