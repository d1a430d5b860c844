"""/proc with hidepid=2: the daemon of an ordinary user does not see other users' processes, nor all of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from supervisor.system.posix import executes
from tests.support.daemon import cleaned_up
from tests.support.nobody import a_public_folder
from tests.support.unprivileged import Unprivileged
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting /proc needs root"),
]

ONE = 'workers = 1\nmax_attempts = 2\nretry_delays = ["100ms"]\n'
HIDDEN = """exec unshare --mount --propagation private -- \
sh -c 'mount -t proc -o hidepid=2 proc /proc && exec "$@"' sh """


@pytest.fixture
def under_test() -> Iterator[Unprivileged]:
    with a_public_folder() as folder:
        under_test = Unprivileged(folder, ONE)
        with cleaned_up(under_test, start=False):
            under_test.start(prefix=HIDDEN)
            yield under_test


def test_messages_run_and_dead_workers_are_on_record(under_test: Unprivileged) -> None:
    for number in range(3):
        under_test.send("nothing", message_id=f"m{number}")
    eventually(lambda: len(under_test.marked("done")) == 3, "they are done")
    for _ in range(2):
        worker = under_test.worker()["pid"]
        os.kill(worker, signal.SIGKILL)
        assert under_test.exit(pid=worker)["cause"] == "killed"
        eventually(lambda: under_test.worker()["state"] == "idle", "it was replaced")
    assert under_test.pool()["state"] == "ok"
    for kind in ("consumer", "forkserver"):
        pid = under_test.pool()[kind]["pid"]
        os.kill(pid, signal.SIGKILL)
        assert under_test.exit(pid=pid)["kind"] == kind
    eventually(lambda: under_test.pool()["state"] == "ok", "all is well again")
    under_test.send("nothing", message_id="m9")
    eventually(lambda: "m9" in under_test.marked("done"), "messages go on")
    assert under_test.stop() == 0
    assert under_test.processes() == []


def test_what_user_code_leaves_behind_is_ended(under_test: Unprivileged) -> None:
    under_test.send("abandon", "sleep", "998", message_id="left")
    (pid,) = eventually(lambda: under_test.marked("spawned"), "it is there")
    os.kill(eventually(lambda: under_test.worker()["pid"], "its worker is there"), signal.SIGKILL)
    eventually(lambda: not executes(int(pid)), "it was ended")


def test_a_message_waits_for_a_process_that_is_hidden_and_cannot_be_ended(under_test: Unprivileged) -> None:
    under_test.send("abandon", *under_test.root, "sleep", "997", message_id="left")
    (pid,) = eventually(lambda: under_test.marked("spawned"), "it is there")
    eventually(under_test.has("stranger.unkillable"), "it is named")
    assert executes(int(pid))
    under_test.send("nothing", message_id="next")
    eventually(lambda: "next" in under_test.marked("done"), "another message is done")
    assert attempts(under_test) == ["1"]
    under_test.end_as_root(int(pid))
    eventually(lambda: attempts(under_test) == ["1", "2"], "its message runs again")
    eventually(lambda: len(under_test.marked("spawned")) == 2, "and leaves another one")
    under_test.end_as_root(int(under_test.marked("spawned")[1]))


def attempts(under_test: Unprivileged) -> list[str]:
    """The attempts of the message `left` that have begun."""
    return [line.split()[1] for line in under_test.marked("begun") if line.startswith("left ")]
