"""What user code leaves behind is ended, also where that is hard; what it did not leave behind is let live."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from supervisor.system import posix
from supervisor.system.posix import executes
from tests.support.daemon import Daemon, daemon
from tests.support.nobody import needs_root
from tests.support.unprivileged import Unprivileged, unprivileged
from tests.support.waiting import eventually

ONE = 'workers = 1\ntimeout = "60s"\nmax_timeout = "60s"\nmax_attempts = 2\nretry_delays = ["100ms"]\n'


def spawned(under_test: Daemon) -> int:
    """The pid of the process that was started first."""
    return int(eventually(lambda: under_test.marked("spawned"), "a process was started")[0])


def add_pool(under_test: Daemon) -> None:
    """A second pool, `other`, in the configuration."""
    text = under_test.config_path.read_text()
    pool = text[text.index("[pools.email]") :].replace("email", "other")
    under_test.config_path.write_text(text + pool)


def abandon(under_test: Unprivileged) -> int:
    """Have a worker leave a process of root's behind and die; the pid of that process."""
    under_test.send("abandon", *under_test.root, "sleep", "1000", message_id="left")
    return spawned(under_test)


def attempts(under_test: Daemon, message_id: str) -> list[str]:
    """The attempts of a message that have begun."""
    return [line.split()[1] for line in under_test.marked("begun") if line.startswith(f"{message_id} ")]


def test_an_orphan_that_cannot_be_ended_holds_up_its_own_message_and_nothing_else() -> None:
    with unprivileged(ONE, prepare=add_pool) as under_test:
        orphan = abandon(under_test)
        record = eventually(lambda: under_test.exits(status=9), "the death is on record")[0]
        assert (record["message_id"], record["run"]) == ("left", "in_doubt")
        under_test.send("nothing", message_id="next")
        eventually(lambda: "next" in under_test.marked("done"), "another message of its pool is done")
        other = under_test.status()["pools"]["other"]["workers"][0]["pid"]
        os.kill(other, signal.SIGKILL)
        under_test.exit(pid=other)
        eventually(under_test.has("stranger.unkillable"), "it is named")
        assert under_test.pool()["state"] == "degraded"
        assert str(orphan) in under_test.pool()["why"]
        assert executes(orphan)
        assert attempts(under_test, "left") == ["1"]
        assert under_test.events("stranger.ended") == [], "the log says only what is so"

        under_test.end_as_root(orphan)

        eventually(lambda: attempts(under_test, "left") == ["1", "2"], "its message runs again")
        eventually(lambda: under_test.exits(status=9, attempt=2), "and is on record again")
        for later in under_test.marked("spawned")[1:]:
            under_test.end_as_root(int(later))
        eventually(lambda: len(under_test.pool()["workers"]) == 1, "the worker that stood in has left")


def test_a_stop_waits_for_no_orphan_that_cannot_be_ended() -> None:
    with unprivileged(ONE) as under_test:
        orphan = abandon(under_test)
        eventually(under_test.has("stranger.unkillable"), "it is named")
        assert under_test.stop() == 0
        under_test.end_as_root(orphan)
        assert attempts(under_test, "left") == ["1"]


def test_a_consumer_that_dies_meanwhile_does_not_make_the_message_run_beside_the_orphan() -> None:
    with unprivileged(ONE) as under_test:
        orphan = abandon(under_test)
        eventually(under_test.has("stranger.unkillable"), "it is named")
        consumer = under_test.pool()["consumer"]["pid"]
        os.kill(consumer, signal.SIGKILL)
        under_test.exit(pid=consumer)
        under_test.send("nothing", message_id="next")
        eventually(lambda: "next" in under_test.marked("done"), "another message is done by the next consumer")
        assert attempts(under_test, "left") == ["1"]
        under_test.end_as_root(orphan)
        eventually(lambda: attempts(under_test, "left") == ["1", "2"], "its message runs again, declared")


def test_what_hides_in_another_session_without_environment_is_ended(tmp_path: Path) -> None:
    with daemon(tmp_path, ONE) as under_test:
        under_test.send("abandon", "sleep", "1000", message_id="left")
        orphan = spawned(under_test)
        eventually(lambda: len(attempts(under_test, "left")) == 2, "the message runs again")
        assert not executes(orphan)
        eventually(under_test.has("stranger.ended", pid=orphan, command="sleep 1000"), "it was named")


def test_what_a_helper_of_the_start_script_leaves_to_us_is_let_live(tmp_path: Path) -> None:
    with daemon(tmp_path, ONE, start=False) as under_test:
        go, pids = under_test.marks / "go", under_test.marks / "spawned"
        helper = f"until [ -e {go} ]; do sleep 0.05; done; setsid sleep 1000 & echo $! >> {pids}"
        under_test.start(prefix=f"( {helper} ) & exec ")
        go.touch()
        bystander = spawned(under_test)
        assert under_test.process is not None
        master = under_test.process.pid
        eventually(lambda: bystander in children(master), "it is the master's child")
        os.kill(under_test.worker()["pid"], signal.SIGKILL)
        under_test.exit(kind="worker")
        eventually(lambda: under_test.worker()["state"] == "idle", "the worker was replaced")
        assert executes(bystander)
        assert under_test.events("stranger.ended") == []


@needs_root
@pytest.mark.root
def test_as_init_of_a_container_it_reaps_what_is_not_ours_and_lets_it_live(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        pytest.skip("needs unshare and nsenter (util-linux)")
    with daemon(tmp_path, ONE, start=False) as under_test:
        under_test.start(prefix="exec unshare --pid --fork --mount-proc --kill-child -- ")
        assert under_test.process is not None
        (init,) = children(under_test.process.pid)
        enter = ["nsenter", f"--target={init}", "--pid", "--mount", "sh", "-c"]
        pids = f"{under_test.marks}/spawned"
        script = f"setsid sleep 1000 & echo $! >> {pids}; setsid true & echo $! >> {pids}"
        subprocess.run([*enter, script], check=True, timeout=20, cwd="/")
        eventually(lambda: len(under_test.marked("spawned")) == 2, "both were started")
        eventually(lambda: "sleep" in names(init), "it is the master's child")
        worker = under_test.worker()["pid"]
        subprocess.run([*enter, f"kill -9 {worker}"], check=True, timeout=20, cwd="/")
        under_test.exit(kind="worker")
        eventually(lambda: under_test.worker()["state"] == "idle", "the worker was replaced")
        under_test.send("abandon", "sleep", "999", message_id="left")
        eventually(lambda: len(attempts(under_test, "left")) == 2, "what a worker leaves is ended there, too")
        eventually(lambda: "true" not in names(init), "what has ended is reaped")
        assert "sleep" in names(init)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def names(pid: int) -> list[str]:
    """What the children of a process are called."""
    return [Path(f"/proc/{child}/comm").read_text().strip() for child in children(pid) if posix.start_ticks(child)]
