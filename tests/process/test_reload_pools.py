"""Reload: pools come and go, and a queue is never consumed by two of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.control.client import ControlClient
from supervisor.errors import ControlError
from tests.support.versioned import Versioned, versioned
from tests.support.waiting import eventually

ONE = 'workers = 1\ntimeout = "60s"\nmax_timeout = "60s"\n'


def states(under_test: Versioned) -> dict[str, str]:
    """The pools there are, and how they are."""
    return {name: pool["state"] for name, pool in under_test.status()["pools"].items()}


def test_a_pool_that_was_added_consumes(tmp_path: Path) -> None:
    with versioned(tmp_path, ONE) as under_test:
        connection = under_test.connection()
        under_test.pools = under_test.another("mail", "workers = 2")
        under_test.configure(ONE)
        assert under_test.reload()["added"] == ["mail"]
        eventually(lambda: states(under_test) == {"email": "ok", "mail": "ok"}, "both are well")
        under_test.send("x", message_id="m", queue="mail")
        eventually(under_test.runs, "the new pool runs a message")
        assert under_test.connection() == connection
        assert under_test.stop() == 0
        assert under_test.processes() == []


def test_a_pool_whose_code_is_bad_is_not_added_and_nothing_else_changes(tmp_path: Path) -> None:
    with versioned(tmp_path, ONE) as under_test:
        before = under_test.specs(), under_test.connection()
        under_test.pools = under_test.another("mail").replace("versioned:run", "versioned:runn")
        under_test.configure(ONE)
        with pytest.raises(ControlError, match="did you mean 'run'"):
            under_test.reload()
        eventually(lambda: states(under_test) == {"email": "ok"}, "the bad pool is gone")
        eventually(lambda: under_test.specs() == before[0], "and who tried the code of the other one")
        assert under_test.connection() == before[1]
        under_test.pools = under_test.another("mail")
        under_test.configure(ONE)
        assert under_test.reload()["added"] == ["mail"]


def test_a_pool_that_was_removed_finishes_what_it_runs_and_is_gone(tmp_path: Path) -> None:
    with versioned(tmp_path, ONE) as under_test:
        under_test.pools = under_test.another("mail", ONE)
        under_test.configure(ONE)
        under_test.reload()
        eventually(lambda: states(under_test)["mail"] == "ok", "it consumes")
        under_test.send("x", "go", message_id="slow", queue="mail")
        eventually(under_test.runs, "it runs")
        under_test.send("x", message_id="later", queue="mail")
        under_test.pools = ""
        under_test.configure(ONE)
        with ControlClient(under_test.runtime_dir) as client:
            client.ask("reload", wait=True)
            eventually(lambda: states(under_test).get("mail") == "stopping", "the pool is leaving")
            with pytest.raises(ControlError, match="leaving"):
                under_test.ask("pause", pool="mail")
            under_test.release()
            assert client.next_answer(30)["removed"] == ["mail"]
        assert states(under_test) == {"email": "ok"}
        assert {exit_["cause"] for exit_ in under_test.exits(pool="mail")} == {"clean_stop"}
        assert len(under_test.exits(pool="mail")) == 3
        assert not (under_test.runtime_dir / "mail.sock").exists()
        assert under_test.ready("mail") == 1, "what was not started is in the queue again"
        under_test.pools = under_test.another("mail", ONE)
        under_test.configure(ONE)
        under_test.reload()
        eventually(lambda: "later" in under_test.runs(), "added again, it goes on")
        assert [line.split()[0] for line in under_test.marked("runs")] == ["slow", "later"]


def test_a_renamed_pool_consumes_when_the_old_one_has_left_the_queue(tmp_path: Path) -> None:
    with versioned(tmp_path, ONE) as under_test:
        under_test.send("x", "go", message_id="slow")
        eventually(under_test.runs, "it runs")
        text = under_test.config_path.read_text()
        under_test.config_path.write_text(text.replace("pools.email", "pools.mail"))
        with ControlClient(under_test.runtime_dir) as client:
            client.ask("reload", wait=True)
            eventually(lambda: states(under_test).get("email") == "stopping", "the old one is leaving")
            assert under_test.status()["pools"]["mail"]["consumer"]["pid"] is None
            under_test.release()
            result = client.next_answer(30)
        assert (result["added"], result["removed"]) == (["mail"], ["email"])
        under_test.send("x", message_id="m")
        eventually(lambda: "m" in under_test.runs(), "the renamed pool consumes")
        assert under_test.exits(cause="boot_failed") == []
        assert [line.split()[0] for line in under_test.marked("runs")] == ["slow", "m"]


def test_a_pool_that_is_down_comes_up_with_the_new_code(tmp_path: Path) -> None:
    settings = ONE + 'hold_retry = "1h"\nrestart_backoff = ["10ms", "20ms"]\nrestart_intensity = [2, "60s"]\n'
    with versioned(tmp_path, settings) as under_test:
        under_test.deploy("second", "raise RuntimeError('broken')")
        under_test.kill_forkserver()
        eventually(lambda: under_test.pool()["forkserver"]["state"] == "held", "the forkserver is given up")
        under_test.deploy("the-third")
        under_test.reload()
        assert states(under_test) == {"email": "ok"}
        under_test.send("x", message_id="m")
        eventually(lambda: under_test.runs() == {"m": "the-third"}, "the new code runs")
