"""What a key does: the state of the screen before it -> the state after it, and perhaps an order for the daemon. Pure.

Nothing is decided here about whether an order makes sense: the daemon refuses what does not, and its words are shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from supervisor.cli.pools import PAUSED, RESUMED, scaled_text
from supervisor.cli.top.view import PoolRow, View
from supervisor.exit_history import Record

_KEY = re.compile(rb"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1bO.|.", re.DOTALL)

_NAMES = {
    **dict.fromkeys((b"\x1b[A", b"\x1bOA"), "up"),
    **dict.fromkeys((b"\x1b[B", b"\x1bOB"), "down"),
    b"\x1b[Z": "back-tab",
    b"\x1b[5~": "page-up",
    **dict.fromkeys((b"\x1b[6~", b" "), "page-down"),
    **dict.fromkeys((b"\x1b[H", b"\x1bOH", b"\x1b[1~"), "home"),
    b"\x1b": "escape",
    b"\t": "tab",
    **dict.fromkeys((b"\r", b"\n"), "enter"),
}


class Order(NamedTuple):
    """A request for the daemon, and how to tell its answers."""

    verb: str
    arguments: Mapping[str, Any]
    told: tuple[Callable[[Mapping[str, Any]], str], ...]
    """For each answer that comes: what the status line says of it."""


class Question(NamedTuple):
    """What is asked before something is ordered."""

    text: str
    order: Order


class Notice(NamedTuple):
    """What the status line says."""

    text: str
    style: str
    until_s: float = 0.0


@dataclass(frozen=True)
class Screen:
    """Everything that is on a screen, and where its user is in it."""

    view: View | None = None
    exits: tuple[Record, ...] = ()
    """Shown even where no daemon is: why it has gone may stand there."""
    trouble: str = ""
    """Why the view is not of now, or is not there."""
    notice: Notice | None = None
    keys: bool = True
    pool: str = ""
    scroll: int = 0
    help: bool = False
    question: Question | None = None
    over: bool = False
    wanted: Mapping[str, int] = field(default_factory=dict)
    """Numbers of workers that were ordered and that the view does not show yet: pressing + twice adds two."""

    @property
    def selected(self) -> PoolRow | None:
        """The pool that the keys are for; None without any."""
        return self.view.pool(self.pool) if self.view else None


Press = tuple[Screen, Order | None]


def read_keys(data: bytes) -> list[str]:
    """The names of the keys in what a terminal sent: `up`, `tab`, `q`; "" for one that is not known."""
    return [_NAMES.get(key) or (key.decode("ascii", "ignore") if len(key) == 1 else "") for key in _KEY.findall(data)]


def press(key: str, screen: Screen, by: str, page: int) -> Press:
    """What a key does. `by`: who presses it; `page`: how many workers are seen at once."""
    if screen.question is not None:
        return replace(screen, question=None), screen.question.order if key in ("y", "Y") else None
    if screen.help:
        return replace(screen, help=False), None
    if key in _ANYWHERE:
        return replace(screen, **_ANYWHERE[key]), None
    pool = screen.selected
    if screen.view is None or pool is None:
        return screen, None
    if key in _ORDERS:
        return _ORDERS[key](screen, pool, by)
    if key in _STEPS:
        names = [each.name for each in screen.view.pools]
        return replace(screen, pool=names[(names.index(pool.name) + _STEPS[key]) % len(names)], scroll=0), None
    if key in _PAGES:
        last = max(0, len(pool.workers) - page)
        return replace(screen, pool=pool.name, scroll=min(max(0, screen.scroll + _PAGES[key] * page), last)), None
    return screen, None


def _pause(screen: Screen, pool: PoolRow, by: str) -> Press:
    verb, arguments, words = ("resume", {}, RESUMED) if pool.status.paused else ("pause", {"by": by}, PAUSED)
    told = (lambda answer: f"pool {pool.name} {words[answer['changed']]}",)
    return screen, Order(verb, {"pool": pool.name, **arguments}, told)


def _scale(screen: Screen, pool: PoolRow, step: int) -> Press:
    workers = screen.wanted.get(pool.name, pool.status.wanted) + step
    order = Order("scale", {"pool": pool.name, "workers": workers}, (lambda answer: _scaled(pool.name, answer),))
    return replace(screen, wanted={**screen.wanted, pool.name: workers}), order


def _scaled(pool: str, answer: Mapping[str, Any]) -> str:
    idle = answer["workers"] > answer["prefetch"]
    limit = f"; prefetch lets only {answer['prefetch']} of them have a message" if idle else ""
    return scaled_text(pool, answer["former"], answer["workers"]) + limit


def _reload(screen: Screen, pool: PoolRow, by: str) -> Press:
    told = (
        lambda answer: "a reload is under way" + ("; this one follows" if answer["queued"] else ""),
        lambda answer: f"reloaded in {answer['took_s']:.1f} s: every worker has the new code",
    )
    text = "reload configuration and code, replace all workers? y/n"
    return replace(screen, question=Question(text, Order("reload", {"wait": True}, told))), None


_ANYWHERE: dict[str, dict[str, Any]] = {
    "q": {"over": True},
    "?": {"help": True},
    "h": {"help": True},
    "home": {"scroll": 0},
}
_ORDERS: dict[str, Callable[[Screen, PoolRow, str], Press]] = {
    "p": _pause,
    "+": lambda screen, pool, by: _scale(screen, pool, +1),
    "=": lambda screen, pool, by: _scale(screen, pool, +1),
    "-": lambda screen, pool, by: _scale(screen, pool, -1),
    "r": _reload,
}
_STEPS = {"tab": +1, "down": +1, "back-tab": -1, "up": -1}
_PAGES = {"page-down": +1, "page-up": -1}

HELP: tuple[tuple[str, str], ...] = (
    ("Tab, arrows", "select a pool: its workers are shown, and the keys below are for it"),
    ("p", "pause the pool, or resume it"),
    ("+  -", "one worker more or less, until the next reload or restart"),
    ("r", "reload configuration and code (asks first)"),
    ("PgDn, PgUp", "go through its workers; Home: back to the first"),
    ("?", "this page"),
    ("q", "quit; Ctrl-Z: suspend"),
)
