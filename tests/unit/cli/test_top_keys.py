"""What keys do, and what the daemon is asked for them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from supervisor.cli.top.keys import HELP, Order, Screen, press, read_keys
from supervisor.cli.top.view import Past, View, make_view
from supervisor.control.protocol import VERBS
from tests.support.statuses import Status, pool, status, typed, worker


def view(**pools: Status) -> View:
    """Two pools, or these."""
    pools = pools or {"a": pool(worker(), worker(1), name="a"), "b": pool(worker(), name="b")}
    return make_view(typed(status(**pools)), Past(), datetime.now(UTC))


def pressed(*keys: str, screen: Screen | None = None, seen: View | None = None) -> tuple[Screen, list[Order]]:
    """The screen after these keys, and all that was ordered."""
    screen, orders = replace(screen or Screen(), view=seen or view()), []
    for key in keys:
        screen, order = press(key, screen, "alice", 10)
        orders += [order] if order else []
    return screen, orders


def asked(*keys: str, seen: View | None = None) -> list[tuple[str, dict[str, object]]]:
    """What is ordered by these keys."""
    return [(order.verb, dict(order.arguments)) for order in pressed(*keys, seen=seen)[1]]


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"q", ["q"]),
        (b"\x1b[A\x1bOB\t\x1b[Z", ["up", "down", "tab", "back-tab"]),
        (b"\x1b[5~ \x1b[H", ["page-up", "page-down", "home"]),
        (b"\x1b", ["escape"]),
        (b"\x1b[1;5A\x1b[200~", ["", ""]),
        ("é".encode(), ["", ""]),
        (b"++p", ["+", "+", "p"]),
    ],
)
def test_what_a_terminal_sends_is_read_as_keys(data: bytes, keys: list[str]) -> None:
    assert read_keys(data) == keys


def test_q_ends_it_also_without_a_daemon() -> None:
    assert press("q", Screen(), "alice", 1) == (Screen(over=True), None)


@pytest.mark.parametrize("key", ["p", "+", "r", "tab", "page-down", "x", ""])
def test_without_a_daemon_nothing_is_ordered(key: str) -> None:
    assert press(key, Screen(), "alice", 1) == (Screen(), None)


def test_tab_and_arrows_go_round_the_pools() -> None:
    assert [pressed(*keys)[0].pool for keys in (["tab"], ["tab", "tab"], ["up"], ["down", "back-tab"])] == [
        *("b", "a", "b", "a")
    ]


def test_another_pool_is_shown_from_its_first_worker() -> None:
    assert pressed("tab", screen=Screen(scroll=7))[0].scroll == 0


def test_p_pauses_the_selected_pool_by_name_of_who_pressed_it() -> None:
    assert asked("tab", "p") == [("pause", {"pool": "b", "by": "alice"})]


def test_p_resumes_a_paused_pool() -> None:
    paused = pool(name="a", paused={"by": "bob", "since": ""})

    assert asked("p", seen=view(a=paused)) == [("resume", {"pool": "a"})]


def test_plus_and_minus_count_from_what_was_ordered_not_from_what_is_seen_yet() -> None:
    assert [arguments["workers"] for _verb, arguments in asked("+", "+", "-")] == [3, 4, 3]
    assert [arguments["workers"] for _verb, arguments in asked("tab", "-")] == [0], "the daemon refuses, not we"


def test_reload_asks_first() -> None:
    assert asked("r") == []
    assert asked("r", "y") == [("reload", {"wait": True})]
    assert asked("r", "n") == asked("r", "escape") == asked("r", "p") == []


def test_a_key_that_answers_a_question_does_nothing_else() -> None:
    screen, orders = pressed("r", "q")

    assert (screen.over, screen.question, orders) == (False, None, [])


def test_any_key_leaves_the_help_and_only_that() -> None:
    assert pressed("?")[0].help
    seen = view()
    assert pressed("?", "p", seen=seen) == pressed(seen=seen)


def test_every_order_is_one_that_the_daemon_knows() -> None:
    orders = pressed("p", "+", "r", "y")[1]

    assert all(order.arguments.keys() <= VERBS[order.verb].keys() for order in orders)
    assert len(orders) == 3


@pytest.mark.parametrize(
    ("keys", "answers", "words"),
    [
        (["p"], [{"changed": True}], ["pool a is paused"]),
        (["p"], [{"changed": False}], ["pool a was paused already"]),
        (
            ["+"],
            [{"former": 2, "workers": 3, "prefetch": 64}],
            ["pool a: 2 -> 3 workers, until the next reload or restart"],
        ),
        (
            ["+"],
            [{"former": 2, "workers": 3, "prefetch": 2}],
            ["pool a: 2 -> 3 workers, until the next reload or restart; prefetch lets only 2 of them have a message"],
        ),
        (
            ["r", "y"],
            [{"queued": True}, {"took_s": 1.25}],
            ["a reload is under way; this one follows", "reloaded in 1.2 s: every worker has the new code"],
        ),
    ],
)
def test_what_the_daemon_answers_is_told(keys: list[str], answers: list[Status], words: list[str]) -> None:
    (order,) = pressed(*keys)[1]

    assert [tell(answer) for tell, answer in zip(order.told, answers, strict=True)] == words


def test_the_help_names_every_key_that_acts() -> None:
    named = " ".join(name for name, _text in HELP)

    assert all(key in named for key in ("Tab", "arrows", "p", "+", "-", "r", "PgDn", "PgUp", "?", "q"))
