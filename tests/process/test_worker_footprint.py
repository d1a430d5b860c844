"""What a worker has for itself: each function of Python that it calls costs it three pages, for its whole life.

It writes reference counts and caches into whatever it touches, and a page that was written to is shared no more.
"""

from __future__ import annotations

from tests.support.pools import MakeMaster, run_frame

LIBRARIES = {
    "__main__": "the forkserver's entry",
    "_weakrefset": "of threading",
    "contextlib": "suppress",
    "logging": "after a fork, and to rename our handler",
    "os": "the environment, asked by OpenTelemetry",
    "collections.abc": "the same",
    "opentelemetry.trace": "whether an SDK was configured",
    "pathlib": "its slot and its file for stacks",
    "random": "after a fork, and the dice of recycling",
    "socket": "the link",
    "threading": "after a fork",
    "watched_handlers": "the handler",
}
"""Modules not ours whose functions a worker calls, and what for. Not enum, codecs, tempfile: 10 to 20 each."""


def test_a_worker_calls_little_but_its_own_code(make_master: MakeMaster) -> None:
    master = make_master(handler="watched_handlers:run")
    master.boot()
    _, link = master.worker()
    for number in (1, 2):
        link.outcome_of(run_frame(number, "nothing"))
    _, *called = master.noted()[-1].split()

    assert "supervisor.worker.process" in called
    assert "supervisor.scoreboard.slot" in called
    assert {name for name in called if not name.startswith(("supervisor.", "namedtuple_"))} <= LIBRARIES.keys()
