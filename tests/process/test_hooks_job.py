"""A command that runs for an event: its input, what it says, and that nothing it started outlives it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from supervisor.hooks.job import Job, Notification
from supervisor.system.posix import executes
from supervisor.system.reactor import Reactor
from tests.support.waiting import eventually

Run = Callable[..., Job]


@pytest.fixture
def run() -> Iterator[Run]:
    """Runs a shell script to its end; `kill`: as soon as it has said something."""
    reactor = Reactor()

    def to_its_end(script: str, kill: bool = False, payload: bytes = b"") -> Job:
        ended: list[Job] = []
        job = Job(Notification("on_exit", ["sh", "-c", script], {"FACT": "x"}, payload), 60.0, reactor, ended.append)

        def over() -> bool:
            reactor.poll(0.0)
            if kill and job.said and not job.overdue:
                job.kill()
            return bool(ended)

        eventually(over, "it has ended")
        return job

    yield to_its_end
    reactor.close()


def test_it_reads_the_event_and_its_facts_and_what_it_says_is_kept(run: Run) -> None:
    job = run('cat; echo "$FACT" >&2; exit 3', payload=b"event\n" * 100_000)
    assert job.status == 3
    assert job.said.endswith("event\nx")
    assert len(job.said) < 3000


def test_one_that_reads_nothing_ends_as_well(run: Run) -> None:
    assert run("exec <&-", payload=b"event\n" * 100_000).status == 0


def test_what_it_left_in_the_background_is_killed_when_it_ends(run: Run) -> None:
    left = int(run("sleep 1000 & echo $!").said)
    eventually(lambda: not executes(left), "it is gone")


def test_all_it_started_is_killed_with_it(run: Run) -> None:
    job = run("sleep 1000 & echo $!; wait", kill=True)
    assert job.overdue
    assert job.status < 0
    eventually(lambda: not executes(int(job.said)), "it is gone")


def test_a_program_that_is_not_there_is_an_error_and_leaves_nothing_open() -> None:
    reactor = Reactor()
    with pytest.raises(FileNotFoundError):
        Job(Notification("on_exit", ["/no/such/program"], {}, b""), 1.0, reactor, lambda job: None)
    reactor.poll(0.0)
    reactor.close()
