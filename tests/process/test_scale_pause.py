"""Scale, pause and resume of one pool in a running daemon, through the control socket and the command line."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from supervisor.errors import ControlError
from tests.support.site import Site, make_site
from tests.support.versioned import Versioned, versioned
from tests.support.waiting import eventually

TWO = 'workers = 2\ntimeout = "60s"\nmax_timeout = "60s"\n'


def names(under_test: Versioned) -> list[str]:
    """The workers that take messages."""
    return [worker["name"] for worker in under_test.pool()["workers"] if worker["state"] in ("idle", "running")]


# ---- scale --------------------------------------------------------------------------------------------------------


def test_scaling_up_and_down_changes_the_number_of_workers_only(tmp_path: Path) -> None:
    with versioned(tmp_path, TWO) as under_test:
        first, connection = under_test.specs(), under_test.connection()
        assert under_test.ask("scale", pool="email", workers=5) == {"workers": 5, "former": 2, "prefetch": 112}
        eventually(lambda: names(under_test) == [f"email/{n}" for n in range(5)], "there are five")
        assert (under_test.pool()["wanted"], under_test.pool()["configured"]) == (5, 2)
        under_test.ask("scale", pool="email", workers=2)
        eventually(lambda: under_test.specs() == first, "the first two are left")
        assert under_test.connection() == connection
        left = under_test.exits()
        assert {(exit_["cause"], exit_["requested_by"]) for exit_ in left} == {("clean_stop", "preforkd scale")}
        assert len(left) == 3


def test_workers_that_are_too_many_finish_their_message(tmp_path: Path) -> None:
    with versioned(tmp_path, TWO) as under_test:
        for name in ("a", "b"):
            under_test.send("x", "go", message_id=name)
        eventually(lambda: len(under_test.runs()) == 2, "both run")
        under_test.ask("scale", pool="email", workers=1)
        eventually(lambda: under_test.worker(1)["state"] == "leaving", "the second was asked to leave")
        assert under_test.worker(1)["message_id"]
        under_test.release()
        eventually(lambda: under_test.pool()["counters"]["done"] == 2, "both are done")
        eventually(lambda: names(under_test) == ["email/0"], "one is left")
        assert under_test.pool()["counters"]["failed"] == 0


def test_a_surplus_worker_that_dies_is_not_replaced(tmp_path: Path) -> None:
    with versioned(tmp_path, TWO) as under_test:
        under_test.send("x", "go", message_id="a")
        under_test.send("x", "go", message_id="b")
        eventually(lambda: len(under_test.runs()) == 2, "both run")
        under_test.ask("scale", pool="email", workers=1)
        os.kill(under_test.worker(1)["pid"], signal.SIGKILL)
        assert under_test.exit(cause="killed")["restart_in_s"] is None
        under_test.release()
        eventually(lambda: len(under_test.pool()["workers"]) == 1, "its place is gone")


def test_a_reload_takes_the_number_from_the_file_again(tmp_path: Path) -> None:
    with versioned(tmp_path, TWO) as under_test:
        under_test.ask("scale", pool="email", workers=4)
        eventually(lambda: len(names(under_test)) == 4, "there are four")
        under_test.reload()
        eventually(lambda: names(under_test) == ["email/0", "email/1"], "there are two again")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"pool": "email", "workers": 0}, "workers"),
        ({"pool": "email", "workers": 100_000}, "workers"),
        ({"pool": "email"}, "workers is missing"),
        ({"pool": "mail", "workers": 1}, "there is no pool 'mail'; there are email"),
        ({"pool": "email", "workers": True}, "must be int"),
    ],
)
def test_a_number_that_the_file_could_not_have_is_refused(tmp_path: Path, arguments: object, words: str) -> None:
    with versioned(tmp_path, TWO) as under_test, pytest.raises(ControlError, match=words):
        under_test.ask("scale", **arguments)  # type: ignore[arg-type]


def test_the_number_is_not_changed_while_new_code_is_on_trial(tmp_path: Path) -> None:
    with versioned(tmp_path, TWO) as under_test:
        under_test.deploy("second", "while not (MARKS / 'import').exists(): time.sleep(0.01)")
        under_test.ask("reload")
        with pytest.raises(ControlError, match="a reload is under way"):
            under_test.ask("scale", pool="email", workers=3)
        under_test.release("import")
        eventually(under_test.has("reload.done"), "the reload is done")
        under_test.ask("scale", pool="email", workers=3)
        eventually(lambda: len(names(under_test)) == 3, "there are three")


# ---- pause --------------------------------------------------------------------------------------------------------


def test_a_paused_pool_finishes_what_runs_and_takes_nothing(tmp_path: Path) -> None:
    with versioned(tmp_path, TWO.replace("2", "1", 1)) as under_test:
        under_test.send("x", "go", message_id="running")
        eventually(under_test.runs, "it runs")
        under_test.send("x", message_id="waiting")
        eventually(lambda: under_test.pool()["consumer"]["in_flight"] == 2, "the other one is held")
        assert under_test.ask("pause", pool="email", by="alice") == {"changed": True}
        eventually(lambda: under_test.pool()["counters"]["returned"] == 1, "what was not started is given back")
        under_test.release()
        eventually(lambda: under_test.pool()["consumer"]["in_flight"] == 0, "nothing is in flight")
        pool = under_test.pool()
        assert (pool["state"], pool["paused"]["by"], pool["consumer"]["state"]) == ("paused", "alice", "paused")
        assert pool["counters"]["done"] == 1
        assert under_test.ask("pause", pool="email", by="bob") == {"changed": False}
        assert under_test.pool()["paused"]["by"] == "alice"
        assert under_test.ask("resume", pool="email") == {"changed": True}
        eventually(lambda: set(under_test.runs()) == {"running", "waiting"}, "it goes on")
        assert under_test.ask("resume", pool="email") == {"changed": False}
        eventually(lambda: under_test.pool()["state"] == "ok", "it is well")


@pytest.mark.parametrize("what", ["consumer", "workers", "reload", "reconnect"])
def test_a_pool_stays_paused_whatever_happens(tmp_path: Path, what: str) -> None:
    with versioned(tmp_path, TWO) as under_test:
        under_test.ask("pause", pool="email")
        before = under_test.connection()
        _happen(under_test, what)
        if what in ("consumer", "reconnect"):
            eventually(lambda: under_test.connection()[0] not in (None, before[0]), "there is another consumer")
        eventually(lambda: under_test.pool()["consumer"]["state"] == "paused", "the consumer is there")
        eventually(lambda: len(names(under_test)) == 2, "the workers are there")
        under_test.send("x", message_id="m")
        eventually(lambda: under_test.pool()["depth"]["ready"] == 1, "the consumer sees the message")
        assert under_test.pool()["state"] == "paused"
        assert under_test.runs() == {}
        under_test.ask("resume", pool="email")
        eventually(under_test.runs, "it runs")
        eventually(lambda: under_test.pool()["counters"]["done"] == 1, "once")


def _happen(under_test: Versioned, what: str) -> None:
    if what == "consumer":
        os.kill(under_test.connection()[0], signal.SIGKILL)
    elif what == "workers":
        for _name, pid in under_test.specs():
            os.kill(pid, signal.SIGKILL)
    else:
        under_test.configure(TWO + ("prefetch = 9" if what == "reconnect" else "max_attempts = 9"))
        under_test.reload()


def test_a_paused_pool_stops_and_starts_unpaused(tmp_path: Path) -> None:
    with versioned(tmp_path, TWO) as under_test:
        under_test.ask("pause", pool="email")
        assert under_test.stop() == 0
        assert {exit_["cause"] for exit_ in under_test.exits()} == {"clean_stop"}
        under_test.start()
        assert under_test.pool()["paused"] is None


# ---- the command line ---------------------------------------------------------------------------------------------


def test_the_command_line_scales_pauses_resumes_and_reloads(tmp_path: Path) -> None:
    with make_site(tmp_path) as site:
        site.config.write_text(site.config.read_text().replace("workers = 1", "workers = 1\nprefetch = 3"))
        site.ok("start")
        said = site.ok("scale", "mail", "3")
        assert "1 -> 3 workers" in said
        assert "prefetch" not in said
        assert "prefetch is 3" in site.ok("scale", "mail", "4")
        assert "is paused" in site.ok("pause", "mail")
        assert "was paused already" in site.ok("pause", "mail")
        shown = site.ok("status")
        assert "pool mail: paused" in shown
        assert "paused      by " in shown
        assert "scaled      to 4 workers" in shown
        assert "takes messages again" in site.ok("resume", "mail")
        assert "was not paused" in site.ok("resume", "mail")
        site.config.write_text(site.config.read_text().replace("workers = 1", "workers = 2"))
        said = site.ok("reload")
        assert "every worker has the new code" in said
        assert "[pools.mail] changed: workers" in said
        assert site.cli("scale", "absent", "1").returncode == 1
        assert site.cli("scale", "mail", "none").returncode == 2
        _refused_numbers(site)
        _refused_with_78(site)


def _refused_numbers(site: Site) -> None:
    """They are blamed on the command: the file is as good as it was."""
    for number, status, told in (
        ("0", 2, "at least 1 is needed; `preforkd pause mail` lets a pool take no messages"),
        ("10001", 1, "scale: 10001 workers in pool mail: must be from 1 to 10,000"),
        (str(10**20), 1, "must be from 1 to 10,000"),
    ):
        done = site.cli("scale", "mail", number)
        assert (done.returncode, told in done.stderr) == (status, True), done.stderr
        assert "preforkd.toml" not in done.stderr


def _refused_with_78(site: Site) -> None:
    good = site.config.read_text()
    site.config.write_text(good.replace("workers = 2", "workers = -2"))
    done = site.cli("reload")
    assert done.returncode == 78
    assert "pools.mail.workers" in done.stderr
    assert "reload.failed" in site.log_path.read_text(), "the daemon has judged it"
    site.config.write_text(good)
    site.ok("stop")
    assert site.cli("reload").returncode == 1
    site.config.write_text("nonsense")
    assert site.cli("reload").returncode == 78
