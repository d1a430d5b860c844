"""Descriptors: the limit is raised where that helps, asked about before it is reached, and nothing is kept."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from supervisor.errors import ControlError, StateError
from supervisor.system import descriptors
from tests.support.daemon import Daemon, cleaned_up, daemon
from tests.support.versioned import Versioned, versioned
from tests.support.waiting import eventually

FAST = 'workers = 2\nrestart_backoff = ["10ms", "50ms"]'


def used(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def soft_limit(pid: int) -> int:
    return resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]


def master(under_test: Daemon) -> int:
    assert under_test.process is not None
    return under_test.process.pid


def settled(under_test: Daemon, workers: int, before: int) -> bool:
    """Whether there are so many workers, all ready, and as many descriptors in the master as before."""
    pool = under_test.pool()
    ready = [worker for worker in pool["workers"] if worker["state"] in ("idle", "running")]
    return len(pool["workers"]) == len(ready) == workers and used(master(under_test)) == before


def test_a_scale_beyond_the_limit_is_refused_by_name_and_changes_nothing(tmp_path: Path) -> None:
    with daemon(tmp_path, FAST, start=False) as under_test:
        under_test.start(prefix="ulimit -n 250; exec ")
        before = used(master(under_test))
        for _ in range(3):
            with pytest.raises(
                ControlError, match=r"498 more workers need 498 more descriptors: .* of 250 .*ulimit -n"
            ):
                under_test.ask("scale", pool="email", workers=500)
        eventually(lambda: settled(under_test, 2, before), "nothing is kept of what was refused")
        assert len(list((under_test.state_dir / "pools/email/slots").glob("*.slot"))) == 2
        under_test.ask("scale", pool="email", workers=3)
        eventually(lambda: settled(under_test, 3, before + 1), "a third worker is there")
        under_test.send("nothing")
        eventually(lambda: under_test.marked("done"), "messages run")
        assert under_test.stop() == 0
        assert under_test.processes() == []


def test_a_reload_to_too_many_workers_fails_and_the_next_one_succeeds(tmp_path: Path) -> None:
    under_test = Versioned(tmp_path, FAST)
    under_test.deploy("one")
    with cleaned_up(under_test, start=False):
        under_test.start(prefix="ulimit -n 250; exec ")
        before = used(master(under_test))
        for version in ("second", "third"):
            under_test.configure("workers = 500")
            with pytest.raises(ControlError, match=r"more descriptors: .*ulimit -n"):
                under_test.reload()
            under_test.configure(FAST)
            under_test.deploy(version)
            under_test.reload()
        eventually(lambda: settled(under_test, 2, before), "everything is as before")
        assert under_test.stop() == 0


def test_the_soft_limit_is_raised_but_not_for_user_code(tmp_path: Path) -> None:
    with daemon(tmp_path, FAST, daemon="", start=False) as under_test:
        under_test.start(prefix="ulimit -Sn 200; exec ")
        hard = resource.prlimit(master(under_test), resource.RLIMIT_NOFILE)[1]
        pool = under_test.pool()
        assert soft_limit(master(under_test)) == hard > 200
        assert soft_limit(pool["consumer"]["pid"]) == hard
        assert soft_limit(pool["forkserver"]["pid"]) == 200
        assert [soft_limit(worker["pid"]) for worker in pool["workers"]] == [200, 200]


def test_descriptors_are_the_same_after_any_number_of_changes(tmp_path: Path) -> None:
    with versioned(tmp_path, FAST) as under_test:
        before = used(master(under_test))
        for number in range(3):
            under_test.ask("scale", pool="email", workers=6)
            eventually(lambda: settled(under_test, 6, before + 4), "six are there")
            under_test.ask("scale", pool="email", workers=2)
            eventually(lambda: settled(under_test, 2, before), "two are there")
            under_test.deploy("bad" * number, "raise OSError('no database')")
            with pytest.raises(ControlError, match="no database"):
                under_test.reload()
            under_test.deploy("good" * (number + 1))
            under_test.pools = under_test.another("more", "workers = 3")
            under_test.configure(FAST)
            under_test.reload()
            under_test.pools = ""
            under_test.configure(FAST)
            under_test.reload()
            eventually(lambda: settled(under_test, 2, before), "the added pool is gone again")
        assert under_test.stop() == 0


def test_a_pool_that_cannot_be_made_takes_no_descriptor(tmp_path: Path) -> None:
    with versioned(tmp_path, FAST) as under_test:
        before = used(master(under_test))
        (under_test.state_dir / "pools" / "more").mkdir()
        (under_test.state_dir / "pools" / "more" / "board").mkdir()
        under_test.pools = under_test.another("more", "workers = 3")
        under_test.configure(FAST)
        for _ in range(3):
            with pytest.raises(ControlError, match="board"):
                under_test.reload()
        eventually(lambda: settled(under_test, 2, before), "everything is as before")


@pytest.mark.parametrize("limit", [20, 40])
def test_a_limit_that_is_too_low_to_start_with_is_told(tmp_path: Path, limit: int) -> None:
    with daemon(tmp_path, FAST, start=False) as under_test:
        under_test.start(ready=False, prefix=f"ulimit -n {limit}; exec ")
        assert under_test.wait() == 1
        said = under_test.log_path.read_text()
        assert f"needs some 60 descriptors (2 workers in 1 pools), and may have {limit}; raise the limit" in said
        assert "bug in preforkd" not in said
        assert "Traceback" not in said


def test_a_master_without_a_descriptor_stops_calmly(tmp_path: Path) -> None:
    with daemon(tmp_path, FAST, start=False) as under_test:
        under_test.start()
        pid = master(under_test)
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        under_test.send("until", "go", message_id="m")
        eventually(lambda: under_test.marked("begun"), "a message runs")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
        (under_test.marks / "go").touch()
        assert under_test.stop() == 0
        assert under_test.marked("done") == ["m"]
        assert under_test.processes() == []


def test_a_consumer_without_a_descriptor_does_not_spin_and_goes_on_later(tmp_path: Path) -> None:
    with daemon(tmp_path, FAST) as under_test:
        consumer = under_test.pool()["consumer"]["pid"]
        _, hard = resource.prlimit(consumer, resource.RLIMIT_NOFILE)
        resource.prlimit(consumer, resource.RLIMIT_NOFILE, (3, hard))
        os.kill(under_test.worker(0)["pid"], 9)
        eventually(lambda: "none can be accepted" in under_test.log_path.read_text(), "it is told")
        before_s = under_test.pool()["consumer"]["cpu_s"]
        waits = [under_test.pool()["consumer"]["cpu_s"] for _ in range(50)]
        assert waits[-1] - before_s < 0.5
        resource.prlimit(consumer, resource.RLIMIT_NOFILE, (hard, hard))
        for number in range(4):
            under_test.send("nothing", message_id=f"m{number}")
        eventually(lambda: len(under_test.marked("done")) == 4, "messages run")
        eventually(lambda: under_test.worker(0)["state"] == "idle", "the new worker is there")
        assert under_test.log_path.read_text().count("none can be accepted") == 1


# ---- asked for before it is taken -----------------------------------------------------------------------------------


def test_room_is_asked_for_with_a_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    there = used(os.getpid()) - 1
    monkeypatch.setattr(descriptors, "limit", lambda: there + descriptors.RESERVE + 400)
    descriptors.require(0, "nothing")
    descriptors.require(390, "390 more workers")
    with pytest.raises(StateError, match=r"420 more workers need 420 more descriptors"):
        descriptors.require(420, "420 more workers")


def test_a_noted_limit_that_is_none_is_left_alone() -> None:
    former = resource.getrlimit(resource.RLIMIT_NOFILE)
    for noted in ("", "many", "-5", str(2**62)):
        environment = {descriptors.VARIABLE: noted}
        descriptors.restore_limit(environment)
        assert environment == {}
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == former
