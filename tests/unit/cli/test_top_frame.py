"""The screen of `top` at the sizes people have: nothing is wider or higher than it, and what is left out is said."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, Group
from rich.segment import Segment
from rich.style import Style

from supervisor.cli.top.columns import BAD, CAUSES, GOOD, STATES, cause_style
from supervisor.cli.top.frame import Size, frame, workers_page
from supervisor.cli.top.keys import Notice, Screen, press
from supervisor.cli.top.view import Past, exit_rows, make_view
from supervisor.logs.events import Cause
from tests.support.statuses import Status, busy, consumer, exit_record, exits, pool, status, typed, worker

NOW = datetime(2026, 11, 22, 10, 0, 30, tzinfo=UTC)
SIZES = [Size(80, 24), Size(120, 40), Size(40, 10)]
at_every_size = pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size.width}x{size.height}")

ORDINARY = status(
    email=pool(busy(0, 27.5), busy(1, 3.0, attempt=2), worker(2), name="email", done=7),
    audit=pool(worker(0, "audit"), name="audit", state="degraded", why="the broker is away"),
    exits=[exits("crash", 3), exits("clean_stop", 8)],
)
THOUSAND = status(email=pool(*(busy(slot, 5.0) if slot < 20 else worker(slot) for slot in range(1000))))


Lines = list[list[Segment]]


def scene(shown: Status = ORDINARY, records: int = 12, **facts: Any) -> Screen:
    """What is on the screen after a second look."""
    past = Past()
    past.add(typed({**shown, "uptime_s": shown["uptime_s"] - 2.0}))
    past.add(now := typed(shown))
    ended = [exit_record(slot) for slot in range(records)]
    return replace(Screen(make_view(now, past, NOW), exit_rows(ended, NOW)), **facts)


def lines_of(screen: Screen, size: Size = SIZES[0]) -> Lines:
    """The screen as a terminal of this size gets it."""
    console = Console(width=size.width, height=size.height, markup=False, highlight=False, emoji=False)
    return console.render_lines(frame(screen, size).filling())


def text_of(line: list[Segment]) -> str:
    """What stands there."""
    return "".join(segment.text for segment in line).rstrip()


def drawn(screen: Screen, size: Size = SIZES[0]) -> str:
    """The screen as text."""
    return "\n".join(map(text_of, lines_of(screen, size)))


def style_of(lines: Lines, text: str) -> Style:
    """The style of the first segment with this text in it."""
    return next(segment.style or Style() for line in lines for segment in line if text in segment.text)


# ---- what fits ----------------------------------------------------------------------------------------------------


@at_every_size
@pytest.mark.parametrize("shown", [ORDINARY, THOUSAND, status()], ids=["ordinary", "thousand", "no-pools"])
def test_a_screen_is_never_exceeded(size: Size, shown: Status) -> None:
    for place in ({}, {"help": True}, {"scroll": 990}):
        screen = scene(shown, **place)
        plain = Console(width=size.width, height=500).render_lines(Group(*chain(*frame(screen, size))), pad=False)

        for lines in (lines_of(screen, size), plain if not screen.help else []):
            assert len(lines) <= size.height
            assert all(cell_len(text_of(line)) <= size.width for line in lines)


@given(st.integers(1, 200), st.integers(1, 60), st.integers(0, 30), st.integers(0, 12), st.booleans())
def test_no_screen_is_too_small(width: int, height: int, workers: int, pools: int, told: bool) -> None:
    """Not even one cell: nothing breaks, and nothing is written beside it."""
    many = {f"p{n}": pool(*(busy(slot, pool=f"p{n}") for slot in range(workers)), name=f"p{n}") for n in range(pools)}
    notice = Notice("the daemon says quite a lot about this, more than fits", BAD) if told else None

    lines = lines_of(scene(status(**many), notice=notice, pool="p7"), Size(width, height))

    assert len(lines) <= height
    assert all(cell_len(text_of(line)) <= width for line in lines)


@at_every_size
def test_of_a_thousand_workers_those_not_shown_are_counted(size: Size) -> None:
    text = drawn(scene(THOUSAND, records=0), size)
    shown = text.count("email/")

    assert shown >= 1
    assert f"… {1000 - shown} more workers" in text


def test_scrolling_goes_to_the_last_of_a_thousand_workers_and_no_further() -> None:
    size, screen, seen = SIZES[0], scene(THOUSAND), set()
    text = before = ""
    while not before or text != before:
        before, text = text, drawn(screen, size)
        seen |= {word for word in text.split() if word.startswith("email/")}
        screen, _order = press("page-down", screen, "me", workers_page(screen, size))

    assert seen == {f"email/{slot}" for slot in range(1000)}, "no worker is skipped on the way"
    assert "email/999" in text, "a further page is the last one again"


def test_of_many_pools_the_selected_one_is_seen_and_the_others_are_counted() -> None:
    many = status(**{f"pool{n}": pool(worker(0, f"pool{n}"), name=f"pool{n}") for n in range(20)})
    shown = scene(many, pool="pool17")

    assert style_of(lines_of(shown), "pool17").reverse
    assert "… 17 more pools" in drawn(shown)
    assert "pool17/0" in drawn(shown)


# ---- what is shown ------------------------------------------------------------------------------------------------


def test_eighty_by_twentyfour_shows_all_that_matters() -> None:
    text = drawn(scene())

    for words in (
        *("preforkd 1.2.3", "running", "up 1m", "/etc/p.toml"),
        *("email", "ok", "3/3", "DONE/S", "FAIL/S", "DEAD", "connected 2m"),
        *("queue email · connected to mq:5672 for 2m", "0 retried", "0 parked", "0 duplicate"),
        *("████", "27s/30s", "3.0s/30s", "order-0", "RESTARTS", "20MiB", "MSG/S"),
        *("crash 3", "clean_stop 8", "SIGSEGV", "in doubt", "order-1 (attempt 1)"),
        *("q quit", "p pause", "+ - scale", "r reload"),
    ):
        assert words in text, words


def test_a_wide_screen_shows_every_column() -> None:
    text = drawn(scene(), Size(140, 40))

    for title in ("PARKED", "RETRIED", "DUPL", "HOST", "CONNECTION", "PID", "HANDLED", "RESTARTS", "TRY", "MESSAGE"):
        assert title in text, title


def test_a_small_screen_keeps_pools_workers_and_keys() -> None:
    text = drawn(scene(), Size(40, 10))

    assert all(words in text for words in ("POOL", "email", "WORKER", "email/0", "27s/30s", "q quit")), text


def test_a_run_near_its_limit_is_red() -> None:
    lines = lines_of(scene())

    assert style_of(lines, "27s/30s") == Style.parse(BAD)
    assert style_of(lines, "3.0s/30s") == Style.parse(GOOD)
    assert style_of(lines, "7 done") == Style.null()


def test_a_limit_of_the_message_itself_is_marked_and_no_limit_is_said() -> None:
    shown = scene(status(email=pool(busy(0, 3.0, limit_source="extended"), busy(1, 3.0, 0.0))))

    assert "3.0s/30s*" in drawn(shown)
    assert "3.0s/none" in drawn(shown)


def test_what_is_wrong_with_the_selected_pool_comes_before_what_is_usual() -> None:
    lines = drawn(scene(pool="audit")).splitlines()

    assert lines.index("the broker is away") < next(n for n, line in enumerate(lines) if line.startswith("queue audit"))


def test_the_reason_of_a_lost_connection_is_shown() -> None:
    link = {"state": "refused", "host": "mq:5672", "since_s": 4.0, "opened": 0, "why": "ACCESS_REFUSED"}
    shown = scene(status(email=pool(worker(), consumer=consumer(connection=link))))

    assert "refused to mq:5672 for 34s (ACCESS_REFUSED)" in drawn(shown)


def test_without_a_daemon_the_last_exits_are_still_shown() -> None:
    text = drawn(scene(view=None, trouble="preforkd is not running"))

    assert "preforkd is not running" in text
    assert "SIGSEGV" in text


def test_an_old_view_says_that_it_is_old() -> None:
    text = drawn(scene(trouble="the daemon has not answered for 5s"))

    assert "the daemon has not answered for 5s" in text
    assert "email/0" in text


@at_every_size
def test_a_long_refusal_is_wrapped_and_a_question_is_always_seen(size: Size) -> None:
    refusal = Notice("pools.email.workers: 100000 is too many: at most 10000 slots are kept " * 2, BAD)
    question = press("r", scene(), "me", 1)[0]

    assert "pools.email.workers: 100000" in drawn(scene(notice=refusal), size)
    assert "y/n" in drawn(question, size).replace("\n", " ")


def test_without_keys_none_are_offered() -> None:
    assert "q quit" not in drawn(scene(keys=False))


def test_text_from_outside_commands_no_terminal() -> None:
    nasty = status(email=pool(busy(0, message_id="\x1b[2J\x07\n\u202e"), why="\x1b]0;owned\x07"))
    text = drawn(scene(nasty))

    assert all(char.isprintable() or char == "\n" for char in text)


def test_wide_characters_are_counted_as_the_cells_they_take() -> None:
    shown = scene(status(email=pool(busy(0, message_id="注文" * 60))))

    assert max(cell_len(text_of(line)) for line in lines_of(shown)) <= 80


# ---- exits --------------------------------------------------------------------------------------------------------


def row_of(*records: dict[str, Any]) -> list[str]:
    """The rows of these exits, runs of blanks made one."""
    exits = exit_rows(records, NOW)
    lines = map(text_of, lines_of(Screen(exits=exits), SIZES[1]))
    return [" ".join(line.split()) for line in lines if " ago" in line]


def test_exits_are_shown_the_youngest_first_with_their_age() -> None:
    later = (NOW - timedelta(seconds=1)).isoformat()

    assert row_of(exit_record(1), exit_record(2, "timeout", at=later, signal=None, status=124)) == [
        "1.0s ago email/2 timeout 124 up 12s in doubt order-1 (attempt 1)",
        "30s ago email/1 crash SIGSEGV up 12s in doubt order-1 (attempt 1)",
    ]


def test_children_without_a_slot_are_named_by_their_kind() -> None:
    rows = row_of(exit_record(kind="web", pool="", slot=None), exit_record(kind="consumer", slot=None))

    assert ["consumer email crash" in rows[0], "ago web crash" in rows[1]] == [True, True]


def test_a_record_with_little_in_it_is_shown_all_the_same() -> None:
    assert row_of({"at": "yesterday", "cause": "lost", "uptime_s": None, "attempt": None}) == [
        "0.0s ago worker lost - up 0.0s"
    ]


# ---- tables -------------------------------------------------------------------------------------------------------


def test_every_cause_has_a_colour_that_a_terminal_can_show() -> None:
    assert CAUSES.keys() == set(Cause)
    assert all(Style.parse(colour) for colour in (*CAUSES.values(), *STATES.values()))
    assert {"ok", "degraded", "held", "paused", "starting", "stopping", "idle", "running"} <= STATES.keys()


def test_daily_life_is_green_and_an_unknown_cause_is_not_hidden() -> None:
    assert [cause_style(cause) for cause in ("clean_stop", "recycled", "crash", "from_the_future")] == [
        *(GOOD, GOOD, BAD, BAD)
    ]
