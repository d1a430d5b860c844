"""What a key does: the state of the screen before it -> the state after it, and perhaps an order for the daemon. Pure.

Nothing is decided here about whether an order makes sense: the daemon refuses what does not, and its words are shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from supervisor.cli.top.view import PoolRow, View

_KEY = re.compile(rb"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1bO.|.", re.DOTALL)

_NAMES = {
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"\x1b[B": "down",
    b"\x1bOB": "down",
    b"\x1b[Z": "back-tab",
    b"\x1b[5~": "page-up",
    b"\x1b[6~": "page-down",
    b"\x1b[H": "home",
    b"\x1bOH": "home",
    b"\x1b[1~": "home",
    b"\x1b": "escape",
    b"\t": "tab",
    b"\r": "enter",
    b"\n": "enter",
    b" ": "page-down",
}


@dataclass(frozen=True)
class Order:
    """A request for the daemon, and how to tell its answers."""

    verb: str
    arguments: Mapping[str, Any]
    told: tuple[Callable[[Mapping[str, Any]], str], ...]
    """For each answer that comes: what the status line says of it."""


@dataclass(frozen=True)
class Question:
    """What is asked before something is ordered."""

    text: str
    order: Order


@dataclass(frozen=True)
class Screen:
    """What belongs to the screen and not to the daemon."""

    pool: str = ""
    scroll: int = 0
    help: bool = False
    question: Question | None = None
    over: bool = False
    wanted: Mapping[str, int] = field(default_factory=dict)
    """Numbers of workers that were ordered and that the view does not show yet: pressing + twice adds two."""


Press = tuple[Screen, Order | None]


def read_keys(data: bytes) -> list[str]:
    """The names of the keys in what a terminal sent: `up`, `tab`, `q`; "" for one that is not known."""
    return [_NAMES.get(key) or (key.decode("ascii", "ignore") if len(key) == 1 else "") for key in _KEY.findall(data)]


def press(key: str, screen: Screen, view: View | None, by: str, page: int) -> Press:
    """What a key does. `by`: who presses it; `page`: how many workers are seen at once."""
    if screen.question is not None:
        return replace(screen, question=None), screen.question.order if key in ("y", "Y") else None
    if screen.help:
        return replace(screen, help=False), None
    if key in _ANYWHERE:
        return _ANYWHERE[key](screen), None
    pool = view.pool(screen.pool) if view is not None else None
    if view is None or pool is None:
        return screen, None
    if key in _ORDERS:
        return _ORDERS[key](screen, pool, by)
    if key in _STEPS:
        return _pick(screen, view, pool, _STEPS[key]), None
    if key in _PAGES:
        last = max(0, len(pool.workers) - page)
        return replace(screen, pool=pool.name, scroll=min(max(0, screen.scroll + _PAGES[key] * page), last)), None
    return screen, None


def _quit(screen: Screen) -> Screen:
    return replace(screen, over=True)


def _help(screen: Screen) -> Screen:
    return replace(screen, help=True)


def _top(screen: Screen) -> Screen:
    return replace(screen, scroll=0)


def _pick(screen: Screen, view: View, pool: PoolRow, step: int) -> Screen:
    names = [each.name for each in view.pools]
    return replace(screen, pool=names[(names.index(pool.name) + step) % len(names)], scroll=0)


def _pause(screen: Screen, pool: PoolRow, by: str) -> Press:
    yes, no = _PAUSED[pool.paused]
    verb, arguments = ("resume", {}) if pool.paused else ("pause", {"by": by})
    order = Order(
        verb, {"pool": pool.name, **arguments}, (lambda answer: f"pool {pool.name} {yes if answer['changed'] else no}",)
    )
    return screen, order


_PAUSED = {True: ("takes messages again", "was not paused"), False: ("is paused", "was paused already")}


def _scale(step: int) -> Callable[[Screen, PoolRow, str], Press]:
    def scale(screen: Screen, pool: PoolRow, by: str) -> Press:
        workers = screen.wanted.get(pool.name, pool.wanted) + step
        order = Order("scale", {"pool": pool.name, "workers": workers}, (lambda answer: _scaled(pool.name, answer),))
        return replace(screen, wanted={**screen.wanted, pool.name: workers}), order

    return scale


def _scaled(pool: str, answer: Mapping[str, Any]) -> str:
    idle = answer["workers"] > answer["prefetch"]
    limit = f"; prefetch lets only {answer['prefetch']} of them have a message" if idle else ""
    return f"pool {pool}: {answer['former']} -> {answer['workers']} workers, until the next reload or restart{limit}"


def _reload(screen: Screen, pool: PoolRow, by: str) -> Press:
    told = (
        lambda answer: "a reload is under way" + ("; this one follows" if answer["queued"] else ""),
        lambda answer: f"reloaded in {answer['took_s']:.1f} s: every worker has the new code",
    )
    question = Question(
        "reload configuration and code, replace all workers? y/n", Order("reload", {"wait": True}, told)
    )
    return replace(screen, question=question), None


_ANYWHERE: dict[str, Callable[[Screen], Screen]] = {"q": _quit, "?": _help, "h": _help, "home": _top}
_ORDERS: dict[str, Callable[[Screen, PoolRow, str], Press]] = {
    "p": _pause,
    "+": _scale(+1),
    "=": _scale(+1),
    "-": _scale(-1),
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
