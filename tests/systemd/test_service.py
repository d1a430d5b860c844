"""The shipped unit under a real systemd: one machine for all of these, each with a service of its own on RabbitMQ."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from supervisor.system.clock import monotonic_s
from tests.support.machine import PROGRAM, Machine, booted_machine
from tests.support.memory_groups import memory_group
from tests.support.rabbitmq import RabbitNode
from tests.support.service import UNIT, Service, exposure, service
from tests.support.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.rabbitmq]

PATIENT = 'timeout = "60s"\nmax_timeout = "120s"\nprefetch = 8\n'
ONE = f"workers = 1\n{PATIENT}"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Booted once."""
    with booted_machine(tmp_path_factory.mktemp("machine")) as booted:
        yield booted


def start(under_test: Service) -> None:
    """Start it, which returns when it is ready."""
    started = under_test.systemctl("start")
    assert started.returncode == 0, started.stderr


# ---- start --------------------------------------------------------------------------------------------------------


def test_a_start_is_over_when_the_pool_consumes_and_not_before(machine: Machine, rabbitmq: RabbitNode) -> None:
    slow = ONE + 'init = "tests.support.daemon_handlers:wait_for_boot"\n'
    with service(machine, rabbitmq, slow) as under_test:
        under_test.begin("start")
        eventually(lambda: under_test.journal("PREFORKD_EVENT=consumer.ready"), "the queue is consumed already")
        assert under_test.is_now("activating")
        assert under_test.show("StatusText").startswith("starting: email: 0/1 workers")
        under_test.release("boot")
        eventually(lambda: under_test.is_now("active"), "the service is active")
        assert under_test.status()["state"] == "running"


def test_the_status_line_tells_how_it_is(machine: Machine, rabbitmq: RabbitNode) -> None:
    with service(machine, rabbitmq, ONE + "max_attempts = 1\n", "WatchdogSec=3s") as under_test:
        start(under_test)
        under_test.send("nothing", message_id="good")
        under_test.send("leave_hard", 9, message_id="crash")
        expected = 'Status: "email: 1/1 workers, 1 done, 1 crash"'
        eventually(lambda: expected in under_test.systemctl("status").stdout, f"it says {expected}")


def test_a_bad_handler_ends_the_start_and_is_not_tried_again(machine: Machine, rabbitmq: RabbitNode) -> None:
    with service(machine, rabbitmq, ONE) as under_test:
        path = machine.path("/etc/preforkd/preforkd.toml")
        path.write_text(path.read_text().replace("job_handlers:run", "job_handlers:missing"))
        assert under_test.systemctl("start").returncode != 0
        assert (under_test.show("ActiveState"), under_test.show("ExecMainStatus")) == ("failed", "78")
        assert under_test.show("NRestarts") == "0"
        assert any("missing" in entry["MESSAGE"] for entry in under_test.journal("PRIORITY=3"))


def test_root_asks_the_daemon_and_others_may_not(machine: Machine, rabbitmq: RabbitNode) -> None:
    with service(machine, rabbitmq, ONE) as under_test:
        start(under_test)
        assert "email" in machine.ok(PROGRAM, "status")
        assert machine.run("setpriv", "--reuid=65534", "--clear-groups", PROGRAM, "status").returncode != 0
        assert machine.path("/run/preforkd/control.sock").stat().st_mode & 0o777 == 0o600
        assert machine.ok("ps", "-o", "user=", "-p", str(under_test.main_pid())).strip() == "preforkd"


def test_a_bad_configuration_is_an_error_in_the_journal_line_by_line(machine: Machine, rabbitmq: RabbitNode) -> None:
    with service(machine, rabbitmq, "workers = -1\nprefetchh = 1\n") as under_test:
        assert under_test.systemctl("start").returncode != 0
        assert under_test.show("ExecMainStatus") == "78"
        lines = [entry["MESSAGE"] for entry in under_test.journal("PRIORITY=3")]
        assert [line.partition(":")[0].strip() for line in lines] == [
            "error",
            "pools.email.workers = -1",
            "pools.email.prefetchh = 1",
        ]


# ---- life ---------------------------------------------------------------------------------------------------------


def test_entries_in_the_journal_have_fields_and_priorities(machine: Machine, rabbitmq: RabbitNode) -> None:
    with service(machine, rabbitmq, ONE + "max_attempts = 1\n") as under_test:
        start(under_test)
        under_test.send("complain", message_id="bad")
        (failed,) = eventually(lambda: under_test.journal("PREFORKD_EVENT=message.failed"), "the failure is on record")
        assert (failed["PREFORKD_POOL"], failed["PREFORKD_MESSAGE_ID"]) == ("email", "bad")
        halves = [_facts(entry) for entry in under_test.journal("PREFORKD_MESSAGE_ID=bad")]
        assert halves[:2] == [
            ("a line of the handler", "daemon_handlers", "4", "email", "0", "1", "1"),
            ("a printed line", "stdout", "6", "email", "0", "1", "1"),
        ]
        assert failed["MESSAGE"] in [facts[0] for facts in halves[2:]]
        assert failed["SYSLOG_IDENTIFIER"] == "preforkd"
        assert failed["PRIORITY"] in ("3", "4")
        assert failed["_SYSTEMD_UNIT"] == UNIT
        assert "as ordered" in json.dumps(failed)
        (ready,) = under_test.journal("PREFORKD_EVENT=worker.ready", "PREFORKD_POOL=email")
        assert (ready["PRIORITY"], ready["MESSAGE"], ready["PREFORKD_SLOT"]) == ("6", "email/0 is ready", "0")


def _facts(entry: dict[str, str]) -> tuple[str | None, ...]:
    fields = ("LOGGER", "PRIORITY", "POOL", "SLOT", "ROUND", "ATTEMPT")
    return entry["MESSAGE"], *(entry.get(name if name == "PRIORITY" else f"PREFORKD_{name}") for name in fields)


def test_its_log_is_read_from_the_journal_while_it_runs_and_afterwards(machine: Machine, rabbitmq: RabbitNode) -> None:
    with service(machine, rabbitmq, ONE + "max_attempts = 1\n") as under_test:
        start(under_test)
        under_test.send("fail", message_id="logged")
        eventually(lambda: under_test.journal("PREFORKD_EVENT=message.failed"), "the failure is on record")
        found = map(json.loads, machine.ok(PROGRAM, "logs", under_test.queue, "--json").splitlines())
        (failed,) = (at for at in found if (at["event"], at.get("message_id")) == ("message.failed", "logged"))
        assert (failed["process"], failed["level"]) == ("consumer email", "warning")
        whole = machine.ok(PROGRAM, "logs", "-n", "0")
        assert "consumer email[" in whole and "message.failed: " in whole and "fails as ordered" in whole
        assert "systemd[1]" in whole, "the words of systemd about the unit belong to it"
        under_test.systemctl("stop")
        eventually(lambda: _said(machine, "daemon.stopped: "), "the end is in the journal")
        assert _said(machine, "daemon.stopped: ", "--unit", UNIT.removesuffix(".service"))


def _said(machine: Machine, text: str, *arguments: str) -> str:
    """What `logs` prints, if the text is in it."""
    shown = machine.ok(PROGRAM, "logs", *arguments)
    return shown if text in shown else ""


def test_its_log_is_followed_in_the_journal(machine: Machine, rabbitmq: RabbitNode) -> None:
    with service(machine, rabbitmq, ONE + "max_attempts = 1\n") as under_test:
        start(under_test)
        with machine.reading(PROGRAM, "logs", "email", "--follow", "--lines", "1", "--json") as lines:
            next(lines)
            under_test.send("fail", message_id="followed")
            assert any(json.loads(line).get("message_id") == "followed" for line in lines)


def test_lines_of_json_in_the_journal_are_read_too(machine: Machine, rabbitmq: RabbitNode) -> None:
    with service(machine, rabbitmq, ONE) as under_test:
        path = machine.path("/etc/preforkd/preforkd.toml")
        path.write_text(f'[log]\nformat = "json"\n{path.read_text()}')
        start(under_test)
        ready = f"consuming from '{under_test.queue}'"
        shown = eventually(lambda: _said(machine, ready, "email", "--json"), "the journal has it")
        (line,) = (json.loads(line) for line in shown.splitlines() if ready in line)
        assert (line["event"], line["queue"]) == ("consumer.ready", under_test.queue)


def test_a_journal_that_one_may_not_read_is_an_error(machine: Machine, rabbitmq: RabbitNode) -> None:
    with service(machine, rabbitmq, ONE) as under_test:
        start(under_test)
        drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
        done = machine.run(*drop, PROGRAM, "logs", "--unit", UNIT)
        assert (done.returncode, done.stdout) == (1, "")
        assert "insufficient permissions" in done.stderr


def test_a_master_that_stands_still_is_replaced_and_its_message_declared(
    machine: Machine, rabbitmq: RabbitNode
) -> None:
    with service(machine, rabbitmq, ONE, "WatchdogSec=3s") as under_test:
        start(under_test)
        under_test.send("until", "go", message_id="cut-off")
        eventually(lambda: under_test.runs("cut-off") == [1], "the message runs")
        first = under_test.main_pid()
        under_test.systemctl("kill", "--kill-whom=main", "--signal=STOP")
        eventually(lambda: under_test.show("NRestarts") == "1" and under_test.is_now("active"), "it was replaced")
        assert under_test.main_pid() != first
        under_test.release("go")
        under_test.wait_done("cut-off")
        assert under_test.runs("cut-off") == [1, 2]
        assert under_test.exit(kind="worker", message_id="cut-off")["cause"] == "lost"


def test_pings_keep_a_working_service_alive(machine: Machine, rabbitmq: RabbitNode) -> None:
    with service(machine, rabbitmq, ONE, "WatchdogSec=1s") as under_test:
        start(under_test)
        until_s = monotonic_s() + 3.0
        eventually(lambda: monotonic_s() > until_s, "three times the watchdog's timeout has passed")
        assert (under_test.show("NRestarts"), under_test.show("ActiveState")) == ("0", "active")


def test_a_worker_taken_by_the_kernel_for_its_memory_stops_nothing_else(machine: Machine, rabbitmq: RabbitNode) -> None:
    """The worker is put into a control group with a limit: on machines with cgroup v1 systemd sets none in here."""
    with service(machine, rabbitmq, ONE + "max_attempts = 1\nmax_memory = 0\nkill_memory = 0\n") as under_test:
        start(under_test)
        first = under_test.main_pid()
        with memory_group(64 << 20) as group:
            (group / "cgroup.procs").write_text(str(machine.our_pid(under_test.worker()["pid"])))
            under_test.send("eat", 200, message_id="large")
            record = under_test.exit(kind="worker")
        assert (record["cause"], record["signal"]) == ("out_of_memory", "SIGKILL")
        eventually(lambda: under_test.worker()["state"] == "idle", "the worker is replaced")
        assert (under_test.show("ActiveState"), under_test.show("NRestarts")) == ("active", "0")
        assert under_test.main_pid() == first
        assert under_test.show("OOMPolicy") == "continue"


def test_a_reload_under_load_keeps_the_service_and_loses_nothing(machine: Machine, rabbitmq: RabbitNode) -> None:
    with service(machine, rabbitmq, f"workers = 2\n{PATIENT}") as under_test:
        start(under_test)
        first, names = under_test.main_pid(), [f"m{number}" for number in range(300)]
        under_test.send_all([under_test.order("sleep", 0.01, message_id=name) for name in names])
        reloaded = under_test.systemctl("reload")
        assert reloaded.returncode == 0, reloaded.stderr
        assert (under_test.main_pid(), under_test.show("ActiveState")) == (first, "active")
        under_test.wait_done(*names)
        assert sorted(under_test.marked("done")) == sorted(names)
        assert len(under_test.journal("PREFORKD_EVENT=reload.done")) == 1


def test_a_reload_waits_for_a_long_handler_by_asking_for_more_time(machine: Machine, rabbitmq: RabbitNode) -> None:
    with service(machine, rabbitmq, ONE, "TimeoutStartSec=5s\nWatchdogSec=3s") as under_test:
        start(under_test)
        under_test.send("until", "go", message_id="long")
        eventually(lambda: under_test.runs("long") == [1], "the message runs")
        begun_s = monotonic_s()
        under_test.begin("reload")
        eventually(lambda: monotonic_s() - begun_s > 7.0, "more than TimeoutStartSec has passed")
        assert under_test.is_now("reloading")
        under_test.release("go")
        eventually(lambda: under_test.is_now("active"), "the service is active again")
        assert under_test.show("ReloadResult") == "success"
        assert under_test.marked("done") == ["long"]


def test_a_bad_reload_is_reported_and_changes_nothing(machine: Machine, rabbitmq: RabbitNode) -> None:
    with service(machine, rabbitmq, ONE) as under_test:
        start(under_test)
        under_test.configure("workers = -1\n")
        assert under_test.systemctl("reload").returncode != 0
        assert under_test.is_now("active")
        assert under_test.journal("PREFORKD_EVENT=reload.failed")
        under_test.send("nothing", message_id="after")
        under_test.wait_done("after")


# ---- stop ---------------------------------------------------------------------------------------------------------


def test_a_stop_waits_for_a_long_handler_by_asking_for_more_time(machine: Machine, rabbitmq: RabbitNode) -> None:
    with service(machine, rabbitmq, ONE, "TimeoutStopSec=2s") as under_test:
        start(under_test)
        under_test.send("until", "go", message_id="long")
        eventually(lambda: under_test.runs("long") == [1], "the message runs")
        begun_s = monotonic_s()
        under_test.begin("stop")
        eventually(lambda: monotonic_s() - begun_s > 6.0, "three times TimeoutStopSec have passed")
        assert under_test.is_now("deactivating")
        assert under_test.show("StatusText").startswith("stopping: 1 message still running")
        under_test.release("go")
        eventually(lambda: under_test.is_now("inactive"), "the service has stopped")
        assert under_test.show("Result") == "success"
        assert under_test.marked("done") == ["long"]
        assert under_test.exit(kind="worker")["cause"] == "clean_stop"
        assert rabbitmq.depth(under_test.queue) == 0


def test_a_stop_by_the_command_line_is_not_undone_by_systemd(machine: Machine, rabbitmq: RabbitNode) -> None:
    with service(machine, rabbitmq, ONE) as under_test:
        start(under_test)
        machine.ok(PROGRAM, "stop")
        eventually(lambda: under_test.is_now("inactive"), "the service has stopped")
        assert (under_test.show("Result"), under_test.show("NRestarts")) == ("success", "0")
        assert list(machine.path("/run").glob("preforkd")) == [], "the runtime directory is systemd's to remove"


# ---- sandbox ------------------------------------------------------------------------------------------------------


def test_the_exposure_is_low(machine: Machine, rabbitmq: RabbitNode) -> None:
    with service(machine, rabbitmq):
        score, text = exposure(machine)
        print(text)  # noqa: T201
        assert score <= 2.5


def test_the_unit_is_one_that_systemd_has_nothing_to_say_about(machine: Machine, rabbitmq: RabbitNode) -> None:
    with service(machine, rabbitmq):
        done = machine.run("systemd-analyze", "verify", f"/etc/systemd/system/{UNIT}")
        assert UNIT not in done.stderr, done.stderr
