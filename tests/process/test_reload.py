"""Reload: new code and settings come in beside the old ones, one worker after another, or not at all."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from supervisor.control.client import ControlClient
from supervisor.errors import ControlError
from tests.support.versioned import Versioned, versioned
from tests.support.waiting import eventually

TWO = 'workers = 2\ntimeout = "60s"\nmax_timeout = "60s"\nmax_attempts = 3\nretry_delays = ["100ms"]\n'


def kept(under_test: Versioned) -> tuple[list[tuple[str, int]], int, tuple[int, int]]:
    """What a reload that fails must not touch: workers, forkserver, consumer."""
    return under_test.specs(), under_test.pool()["forkserver"]["pid"], under_test.connection()


def wait_for_the_new_ones_to_leave(under_test: Versioned, count: int = 2) -> None:
    eventually(lambda: len(under_test.pool()["workers"]) == count, "there is no worker too many")
    eventually(lambda: under_test.status()["state"] == "running", "the reload is over")


# ---- what it does -------------------------------------------------------------------------------------------------


def test_new_code_replaces_every_worker_and_keeps_names_and_connection(tmp_path: Path) -> None:
    with versioned(tmp_path, TWO) as under_test:
        before, connection = under_test.specs(), under_test.connection()
        under_test.deploy("second")
        result = under_test.reload()
        under_test.send("x", message_id="m")
        eventually(lambda: under_test.runs() == {"m": "second"}, "the new code runs")
        assert [name for name, _pid in under_test.specs()] == ["email/0", "email/1"]
        assert not {pid for _name, pid in under_test.specs()} & {pid for _name, pid in before}
        assert under_test.connection() == connection
        assert (result["added"], result["removed"], result["changed"], result["reconnected"]) == ([], [], {}, [])
        (done,) = under_test.events("reload.done")
        assert done["requested_by"] == "preforkd reload"
        left = under_test.exits()
        assert {(exit_["cause"], exit_["requested_by"]) for exit_ in left} == {("clean_stop", "reload")}
        assert under_test.stop() == 0
        assert under_test.processes() == []


def test_a_new_worker_is_ready_before_an_old_one_is_asked_to_leave(tmp_path: Path) -> None:
    with versioned(tmp_path, TWO) as under_test:
        under_test.deploy("second")
        under_test.reload()
        ready, steps = 0, list[int]()
        lines = under_test.log_path.read_text().splitlines()
        for line in lines:
            ready += '"worker.ready"' in line
            ready -= '"worker.exited"' in line
            steps += [ready] if '"worker.exited"' in line else []
        assert steps == [2, 2, 2], "never fewer than two after an exit, and one more before"


def test_running_handlers_finish_with_the_code_that_began_them(tmp_path: Path) -> None:
    with versioned(tmp_path, TWO) as under_test:
        under_test.send("x", "go", message_id="slow")
        eventually(under_test.runs, "it runs")
        under_test.deploy("second")
        with ControlClient(under_test.runtime_dir) as client:
            client.ask("reload", wait=True)
            eventually(under_test.has("forkserver.exited"), "the old forkserver has gone")
            under_test.send("x", message_id="quick")
            eventually(lambda: under_test.runs().get("quick"), "another message runs meanwhile")
            assert under_test.status()["state"] == "reloading"
            slow = next(worker["name"] for worker in under_test.pool()["workers"] if worker["message_id"] == "slow")
            assert slow in under_test.status()["reload"]["waits_for"]
            under_test.release()
            client.next_answer(30)
        assert [line.split()[0] for line in under_test.marked("runs")] == ["slow", "quick"]
        eventually(lambda: under_test.pool()["counters"]["done"] == 2, "both are done")
        assert under_test.pool()["counters"]["failed"] == 0


def test_sighup_reloads(tmp_path: Path) -> None:
    with versioned(tmp_path, TWO) as under_test:
        under_test.deploy("second")
        assert under_test.process is not None
        under_test.process.send_signal(signal.SIGHUP)
        eventually(under_test.has("reload.done", requested_by="SIGHUP"), "the reload is done")
        under_test.send("x", message_id="m")
        eventually(lambda: under_test.runs() == {"m": "second"}, "the new code runs")


def test_settings_take_effect_without_a_new_connection(tmp_path: Path) -> None:
    with versioned(tmp_path, TWO) as under_test:
        connection = under_test.connection()
        under_test.configure(
            'workers = 3\ntimeout = "300ms"\nkill_grace = "100ms"\nmax_attempts = 1\n', 'stop_timeout = "7s"'
        )
        result = under_test.reload()
        assert result["changed"]["daemon"] == ["stop_timeout"]
        assert set(result["changed"]["pools.email"]) >= {"workers", "timeout", "max_attempts"}
        assert [name for name, _pid in under_test.specs()] == ["email/0", "email/1", "email/2"]
        under_test.send("x", "never", message_id="stuck")
        under_test.exit(cause="timeout")
        eventually(lambda: under_test.pool()["counters"]["dead"] == 1, "one attempt is all it has now")
        assert len(under_test.exits(cause="timeout")) == 1
        assert under_test.connection() == connection


def test_fewer_workers_finish_first(tmp_path: Path) -> None:
    with versioned(tmp_path, TWO.replace("2", "3", 1)) as under_test:
        under_test.configure(TWO.replace("2", "1", 1))
        under_test.reload()
        assert [name for name, _pid in under_test.specs()] == ["email/0"]
        assert {exit_["cause"] for exit_ in under_test.exits(kind="worker")} == {"clean_stop"}


def test_a_setting_of_the_connection_replaces_the_consumer_after_it_has_finished(tmp_path: Path) -> None:
    with versioned(tmp_path, TWO) as under_test:
        consumer, _opened = under_test.connection()
        under_test.send("x", "go", message_id="slow")
        eventually(under_test.runs, "it runs")
        under_test.configure(TWO + "prefetch = 7")
        with ControlClient(under_test.runtime_dir) as client:
            client.ask("reload", wait=True)
            eventually(lambda: under_test.status()["reload"]["stage"] == "replacing", "the settings are in force")
            assert under_test.connection()[0] == consumer, "it waits for what runs"
            under_test.release()
            assert client.next_answer(30)["reconnected"] == ["email"]
        record = under_test.exit(kind="consumer")
        assert (record["cause"], record["requested_by"]) == ("clean_stop", "reload")
        under_test.send("x", message_id="m")
        eventually(lambda: under_test.runs().get("m"), "the new consumer consumes")
        assert [line.split()[0] for line in under_test.marked("runs")] == ["slow", "m"]
        assert under_test.connection()[0] != consumer
        eventually(lambda: under_test.pool()["counters"]["done"] == 2, "both are done")
        assert under_test.pool()["counters"]["delivered"] == 2, "what ran was settled before the consumer left"


# ---- what it does not do ------------------------------------------------------------------------------------------

BAD_CODE = {
    "a syntax error": ("def", "SyntaxError"),
    "an exception": ("raise RuntimeError('no settings')", "no settings"),
    "an exit": ("raise SystemExit(3)", "exit(3)"),
    "death": ("os.kill(os.getpid(), 11)", "SIGSEGV"),
    "an open thread": ("import threading\nthreading.Thread(target=time.sleep, args=(60,)).start()", "thread"),
}


@pytest.mark.parametrize(("more", "words"), BAD_CODE.values(), ids=BAD_CODE)
def test_code_that_cannot_be_imported_leaves_everything_as_it_was(tmp_path: Path, more: str, words: str) -> None:
    with versioned(tmp_path, TWO) as under_test:
        before = kept(under_test)
        under_test.deploy("second", more)
        with pytest.raises(ControlError) as refusal:
            under_test.reload()
        assert refusal.value.exit_code == 78
        assert words in str(refusal.value)
        wait_for_the_new_ones_to_leave(under_test)
        assert kept(under_test) == before
        assert len(under_test.events("reload.failed")) == 1
        under_test.send("x", message_id="m")
        eventually(lambda: under_test.runs() == {"m": "one"}, "the old code runs")
        under_test.deploy("the-third")
        under_test.reload()
        under_test.send("x", message_id="n")
        eventually(lambda: under_test.runs().get("n") == "the-third", "the next reload works")


def test_an_init_that_fails_leaves_everything_as_it_was(tmp_path: Path) -> None:
    with versioned(tmp_path, TWO) as under_test:
        before = kept(under_test)
        under_test.deploy("second", "def begin():\n    raise RuntimeError('no database')")
        under_test.configure(TWO + 'init = "versioned:begin"')
        with pytest.raises(ControlError, match="no database"):
            under_test.reload()
        wait_for_the_new_ones_to_leave(under_test)
        assert kept(under_test) == before
        assert under_test.exit(cause="boot_failed")["kind"] == "worker"


@pytest.mark.parametrize(
    ("settings", "daemon", "words"),
    [
        ("workers = 0", "", "pools.email.workers"),
        ("wrkers = 1", "", "did you mean"),
        ('timeout = "nonsense', "", "TOML"),
        ("workers = 2", 'user = "another"', "cannot change while the daemon runs"),
    ],
)
def test_a_bad_file_changes_nothing(tmp_path: Path, settings: str, daemon: str, words: str) -> None:
    with versioned(tmp_path, TWO) as under_test:
        before = kept(under_test)
        under_test.configure(settings, daemon)
        with pytest.raises(ControlError) as refusal:
            under_test.ask("reload", wait=True)
        assert refusal.value.exit_code == 78
        assert words in str(refusal.value)
        assert under_test.events("config.invalid")
        assert under_test.events("reload.failed")
        assert kept(under_test) == before


def test_another_state_directory_needs_a_restart(tmp_path: Path) -> None:
    with versioned(tmp_path, TWO) as under_test:
        text = under_test.config_path.read_text()
        under_test.config_path.write_text(text.replace(str(under_test.state_dir), f"{tmp_path}/elsewhere"))
        with pytest.raises(ControlError, match=r"daemon.state_dir.*preforkd restart"):
            under_test.ask("reload")
        assert not (tmp_path / "elsewhere").exists()


def test_a_reload_during_the_start_is_refused(tmp_path: Path) -> None:
    with versioned(tmp_path, TWO) as under_test:
        assert under_test.stop() == 0
        under_test.deploy("second", "while not (MARKS / 'import').exists(): time.sleep(0.01)")
        under_test.start(ready=False)
        eventually(lambda: (under_test.runtime_dir / "control.sock").exists(), "it listens")
        with pytest.raises(ControlError, match="still starting"):
            under_test.ask("reload")
        under_test.release("import")
        eventually(under_test.is_ready, "it is ready")


# ---- several at once ----------------------------------------------------------------------------------------------


def test_a_reload_during_a_reload_follows_it_and_sees_the_latest(tmp_path: Path) -> None:
    with versioned(tmp_path, TWO) as under_test:
        under_test.deploy("second", "while not (MARKS / 'import').exists(): time.sleep(0.01)")
        with ControlClient(under_test.runtime_dir) as first, ControlClient(under_test.runtime_dir) as second:
            assert first.ask("reload", wait=True)["queued"] is False
            assert second.ask("reload", wait=True)["queued"] is True
            eventually(lambda: under_test.status()["reload"]["waits_for"], "the first is under way")
            under_test.release("import")
            first.next_answer(30)
            under_test.deploy("the-third")
            second.next_answer(30)
        assert len(under_test.events("reload.done")) == 2


def test_a_daemon_that_stops_during_a_reload_stops(tmp_path: Path) -> None:
    with versioned(tmp_path, TWO) as under_test:
        under_test.deploy("second", "while not (MARKS / 'import').exists(): time.sleep(0.01)")
        before = set(under_test.processes())
        with ControlClient(under_test.runtime_dir) as client:
            client.ask("reload", wait=True)
            eventually(lambda: set(under_test.processes()) - before, "the new forkserver is there")
            under_test.ask("stop")
            with pytest.raises(ControlError, match="stopping"):
                client.next_answer()
        assert under_test.wait() == 0
        assert under_test.processes() == []
        kinds = sorted(exit_["kind"] for exit_ in under_test.exits())
        assert kinds == ["consumer", "forkserver", "forkserver", "worker", "worker"], "one record for each"


def test_a_daemon_that_stops_while_workers_are_replaced_lets_them_finish(tmp_path: Path) -> None:
    with versioned(tmp_path, TWO) as under_test:
        under_test.send("x", "go", message_id="slow")
        eventually(under_test.runs, "it runs")
        under_test.deploy("second")
        under_test.ask("reload")
        eventually(lambda: (under_test.status()["reload"] or {}).get("stage") == "replacing", "workers are replaced")
        assert under_test.process is not None
        under_test.process.terminate()
        eventually(under_test.has("daemon.stopping"), "the stop has begun")
        under_test.release()
        assert under_test.wait() == 0
        assert {exit_["cause"] for exit_ in under_test.exits()} == {"clean_stop"}
        assert under_test.processes() == []
