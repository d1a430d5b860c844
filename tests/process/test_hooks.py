"""Hooks in a real daemon: commands and a URL are told what happened, and nothing they do is noticed by the pools."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from supervisor.system.posix import executes
from tests.support.daemon import Daemon, daemon
from tests.support.receiver import Receiver, receiver
from tests.support.waiting import eventually

SECRET = "geheim-T0K3N"
POOL = 'workers = 1\nmax_attempts = 1\nrestart_intensity = [1, "60s"]\nhold_retry = "300ms"\n'


class Told:
    """A daemon whose hooks write down what they are told."""

    def __init__(self, under_test: Daemon) -> None:
        self.daemon = under_test
        self.seen: set[int] = set()

    def by(self, hook: str, **facts: Any) -> list[dict[str, Any]]:
        """What the command of a hook has been told."""
        path = self.daemon.directory / f"{hook}.told"
        lines = path.read_text().splitlines() if path.exists() else []
        return [event for event in map(json.loads, lines) if facts.items() <= event.items()]

    def waits_for(self, hook: str, **facts: Any) -> dict[str, Any]:
        return eventually(lambda: self.by(hook, **facts), f"{hook} was told {facts}")[0]

    def variables(self, hook: str) -> str:
        return (self.daemon.directory / f"{hook}.env").read_text()

    def next_worker(self) -> int:
        """The pid of a worker that is there and was not given here before."""
        pid = eventually(
            lambda: (worker := self.daemon.worker())["state"] == "idle" and worker["pid"] not in self.seen and worker,
            "there is another worker",
        )["pid"]
        self.seen.add(pid)
        return int(pid)

    def pid(self) -> int:
        (sidecar,) = self.daemon.status()["sidecars"]
        return int(sidecar["pid"] or 0)

    def is_ready(self) -> bool:
        return bool(self.daemon.status()["sidecars"][0]["state"] == "ready")


@contextmanager
def told(directory: Path, more: str = "", **commands: str) -> Iterator[Told]:
    """A daemon with hooks; `commands` instead of those that write down, `more` lines of `[hooks]`."""
    usual = {
        hook: f"sh -c 'env > {directory}/{hook}.env; cat >> {directory}/{hook}.told'"
        for hook in ("exit", "hold", "dead")
    }
    lines = "\n".join(f"on_{hook} = {json.dumps(text)}" for hook, text in (usual | commands).items())
    with daemon(directory, POOL, f"[hooks]\n{lines}\n{more}") as under_test:
        story = Told(under_test)
        eventually(story.is_ready, "the hooks process is ready")
        yield story


@pytest.fixture(scope="module")
def posts() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, posts: Receiver) -> Iterator[Told]:
    """One daemon for all that goes well: a worker crashes twice, a message is given up."""
    directory = tmp_path_factory.mktemp("hooks")
    (directory / "url").write_text(f"{posts.url}/services/{SECRET}\n")
    posts.answers = [503, 200]
    with told(directory, f'webhook_file = "{directory}/url"\ncauses = ["crash", "killed"]\n') as made:
        made.daemon.send("kill", signal.SIGSEGV, message_id="order-1")
        made.waits_for("dead")
        os.kill(made.next_worker(), signal.SIGKILL)
        made.waits_for("hold", event="pool.recovered")
        yield made


# ---- what is told -------------------------------------------------------------------------------------------------


def test_an_exit_is_told_with_its_whole_record(story: Told) -> None:
    event = story.waits_for("exit", cause="crash")
    (record,) = story.daemon.exits(cause="crash")
    assert event["hook"] == "exit"
    assert event["config"] == str(story.daemon.config_path)
    assert {name: event[name] for name in record} == record
    assert event["message_id"] == "order-1"


def test_a_command_has_the_facts_as_variables(story: Told) -> None:
    story.waits_for("exit", cause="killed")
    lines = story.variables("exit").splitlines()
    expected = {"PREFORKD_HOOK=exit", "PREFORKD_CAUSE=killed", "PREFORKD_SIGNAL=SIGKILL", "PREFORKD_POOL=email"}
    assert expected <= set(lines)


def test_a_letter_is_told_with_its_diagnosis(story: Told) -> None:
    event = story.waits_for("dead")
    assert (event["event"], event["pool"], event["queue"]) == ("message.dead", "email", "email")
    assert (event["message_id"], event["attempts"], event["cause"]) == ("order-1", 1, "crash")
    assert (event["signal"], event["worker"]) == ("SIGSEGV", "email/0")


def test_a_pool_that_is_held_and_recovers_is_told_both_times(story: Told) -> None:
    events = [event["event"] for event in story.by("hold")]
    assert events[-2:] == ["pool.held", "pool.recovered"]
    assert "killed" in story.by("hold", event="pool.held")[0]["why"]


def test_the_webhook_hears_of_everything(story: Told, posts: Receiver) -> None:
    eventually(lambda: {event["hook"] for event in posts.posted} == {"exit", "hold", "dead"}, "all of it was posted")
    assert set(posts.requests) == {f"/services/{SECRET}"}
    eventually(lambda: len(posts.posted) == len(posts.requests) - 1, "what was not taken at first was posted again")


def test_the_webhooks_secret_is_shown_nowhere(story: Told, posts: Receiver) -> None:
    eventually(lambda: posts.requests, "something was posted")
    (ready,) = story.daemon.events("hooks.ready")
    assert f"{posts.url}/***" in ready["message"]
    assert SECRET not in story.daemon.log_path.read_text()
    assert SECRET not in json.dumps(story.daemon.status())
    assert SECRET not in story.variables("exit")


def test_a_signal_for_the_whole_group_leaves_it_to_the_master(story: Told) -> None:
    former = story.pid()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        os.kill(former, number)
    story.daemon.send("no_such_deed", message_id="after")
    story.waits_for("dead", message_id="after")
    assert story.pid() == former


# ---- what goes wrong ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """One daemon whose commands hang, fail, and work at the second try, while thirty messages are given up."""
    directory = tmp_path_factory.mktemp("troubled")
    hangs = f"sh -c 'sleep 1000 & echo $! > {directory}/pid; wait'"
    later = f"sh -c '[ -e {directory}/once ] || {{ touch {directory}/once; exit 75; }}; cat >> {directory}/dead.told'"
    fails = "sh -c 'echo no such room >&2; exit 3'"
    with told(directory, 'timeout = "300ms"\nrate = [2, "1s"]', exit=hangs, dead=later, hold=fails) as made:
        made.daemon.send("kill", signal.SIGSEGV)
        for number in range(29):
            made.daemon.send("no_such_deed", message_id=f"m{number}")
        eventually(lambda: made.daemon.pool()["counters"]["dead"] == 30, "all were given up")
        for _ in range(2):
            os.kill(made.next_worker(), signal.SIGKILL)
        eventually(made.daemon.has("hook.failed", key="on_hold"), "the pool was held")
        made.waits_for("dead", event="hooks.summary")
        assert made.daemon.stop() == 0
        yield made


def test_a_command_that_does_not_end_is_killed_with_all_it_started(troubled: Told) -> None:
    failed = troubled.daemon.events("hook.failed", key="on_exit")[0]
    assert "did not end within 0.3 s and was killed" in failed["message"]
    assert not executes(int((troubled.daemon.directory / "pid").read_text()))


def test_a_failure_is_logged_with_what_the_command_said_and_not_in_a_flood(troubled: Told) -> None:
    (failed,) = troubled.daemon.events("hook.failed", key="on_hold")
    assert "hooks.on_hold failed with status 3" in failed["message"]
    assert failed["output"] == "no such room"


def test_what_may_heal_is_tried_again_and_a_storm_is_told_as_a_sum(troubled: Told) -> None:
    named, sums = troubled.by("dead", event="message.dead"), troubled.by("dead", event="hooks.summary")
    assert (troubled.daemon.directory / "once").exists(), "the first try has failed"
    assert len(named) < 30
    assert len(named) + sum(event["count"] for event in sums) == 30
    assert troubled.daemon.events("hook.failed", key="on_dead") == []


def test_a_hooks_process_that_stands_still_stops_nothing_and_does_not_outlive_the_daemon(tmp_path: Path) -> None:
    with told(tmp_path, exit=f"sh -c 'echo x > {tmp_path}/runs; exec sleep 1000'") as story:
        story.daemon.send("kill", signal.SIGSEGV)
        eventually(lambda: (tmp_path / "runs").exists(), "a command is under way")
        os.kill(story.pid(), signal.SIGSTOP)
        story.daemon.send("kill", signal.SIGSEGV, message_id="again")
        story.daemon.send("nothing", message_id="after")
        eventually(lambda: "after" in story.daemon.marked("done"), "the pool goes on")
        assert story.daemon.process is not None
        story.daemon.process.send_signal(signal.SIGTERM)
        eventually(story.daemon.has("worker.exited", cause="clean_stop"), "the pool has stopped")
        story.daemon.process.send_signal(signal.SIGTERM)
        assert story.daemon.wait() == 0
        assert story.daemon.exit(kind="hooks")["cause"] == "stop_killed"
        assert story.daemon.processes() == []
