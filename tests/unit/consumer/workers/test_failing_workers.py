"""When a worker is replaced because its runs fail while those of the others succeed."""

from __future__ import annotations

import random

import pytest

from supervisor.consumer.workers.outcomes import IN_A_ROW, FailingWorkers
from supervisor.link.frames import Incarnation
from supervisor.scoreboard.words import OutcomeKind

WORKERS = {name: Incarnation(slot, 1) for slot, name in enumerate("abcdefgh")}
KINDS = {
    "+": OutcomeKind.DONE,
    "-": OutcomeKind.FAILED,
    "t": OutcomeKind.SOFT_TIMEOUT,
    "r": OutcomeKind.RETRY,
    "j": OutcomeKind.REJECT,
    "p": OutcomeKind.PUBLISH_FAILED,
}


def replaced(history: str) -> list[str]:
    """Who is replaced in a history like `a+ b-`: a worker's letter and how its run ended."""
    failing = FailingWorkers()
    runs = history.split()
    return [run[0] for run in runs if failing.ended(WORKERS[run[0]], KINDS[run[1]])]


ALTERNATE = "a- b+ " * (IN_A_ROW + 1)


@pytest.mark.parametrize(
    ("history", "who"),
    [
        (ALTERNATE, "a"),
        ("b+ " * 9 + "a- " * 9, ""),
        ("a- " + "b+ " * 9 + "a- " * 4, "a"),
        ("a- " * 9 + "b+ " * 9 + "a- ", "a"),
        ("a- " * 9 + "b+ " * 4 + "a- ", ""),
        ("a- " * 50, ""),
        ("a- b- c- " * 50, ""),
        ("a- a+ " * 50, ""),
        ("a- b+ b- " * 50, ""),
        ("a- c- b+ " * 6, "ac"),
        ("at b+ " * 6, "a"),
        ("ar b+ " * 50, ""),
        ("aj b+ " * 50, ""),
        ("ap b+ " * 50, ""),
        ("a- ar b+ " * 6, "a"),
        (ALTERNATE * 10, "a"),
        (ALTERNATE + "a+ " + ALTERNATE, "aa"),
    ],
    ids=[
        "one fails, another does well",
        "the others did well before, and are idle since",
        "one other worker is enough",
        "failures came first",
        "the others have not done enough yet",
        "a pool of one worker",
        "all fail",
        "messages fail now and then",
        "messages fail elsewhere, too",
        "two of three fail",
        "at the soft limit",
        "a handler that asks for retries",
        "a handler that rejects",
        "a broker that refuses publications",
        "retries in between",
        "the next process in that slot fails as well: told once, no loop",
        "the next process did well, and fails later",
    ],
)
def test_a_worker_is_replaced_that_fails_what_others_do_well(history: str, who: str) -> None:
    assert "".join(replaced(history)) == who


def test_a_new_incarnation_begins_without_failures() -> None:
    failing = FailingWorkers()
    for generation in range(1, 20):
        for _ in range(IN_A_ROW - 1):
            assert not failing.ended(Incarnation(0, generation), OutcomeKind.FAILED)
            assert not failing.ended(Incarnation(1, 1), OutcomeKind.DONE)
        failing.forget(Incarnation(0, generation))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
def test_messages_that_fail_at_random_replace_hardly_any_worker(share: float) -> None:
    dice = random.Random(7)
    failing, workers = FailingWorkers(), list(WORKERS.values())
    kinds = [OutcomeKind.FAILED if dice.random() < share else OutcomeKind.DONE for _ in range(10_000)]
    assert sum(failing.ended(dice.choice(workers), kind) for kind in kinds) <= 10
