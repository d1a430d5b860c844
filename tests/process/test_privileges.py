"""Started as root with `user`: nothing stays root, no user code ever is, files are the user's, secrets stay inside."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.dropping import GID, OTHER_GID, UID, Dropping, dropping
from tests.support.nobody import needs_root
from tests.support.waiting import eventually

pytestmark = [pytest.mark.root, needs_root]

PASSWORD = "geh3im-w0rt"
UNREACHABLE = f"amqp://mailer:{PASSWORD}@127.0.0.1:1/"


@pytest.fixture(scope="module")
def dropped() -> Iterator[Dropping]:
    with dropping() as under_test:
        under_test.run()
        eventually(lambda: under_test.cli("status").returncode == 0, "the daemon answers")
        eventually(lambda: '"running"' in under_test.cli("status", "--json").stdout, "the daemon is ready")
        yield under_test


def facts(pid: int) -> dict[str, list[str]]:
    """/proc/PID/status as words by their label (proc(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {label: words.split() for label, _, words in (line.partition(":") for line in lines)}


def notes(under_test: Dropping) -> list[dict[str, Any]]:
    return [json.loads(line) for line in under_test.notes.read_text().splitlines()]


def run_one(under_test: Dropping) -> None:
    published = subprocess.run(
        under_test.command("publish", "email"),
        input="x\n",
        text=True,
        env=under_test.environment,
        timeout=60,
        check=False,
        capture_output=True,
    )
    assert published.returncode == 0, published.stderr


# ---- root is given up -----------------------------------------------------------------------------------------------


def test_no_process_of_the_daemon_is_root_or_can_be_again(dropped: Dropping) -> None:
    for title, pid in dropped.processes().items():
        found = facts(pid)
        assert found["Uid"] == [str(UID)] * 4, title
        assert found["Gid"] == [str(GID)] * 4, title
        assert set(found["Groups"]) == {str(GID), str(OTHER_GID)}, title
        assert int(found["CapEff"][0], 16) == int(found["CapPrm"][0], 16) == 0, title


def test_user_code_is_never_root_neither_at_import_nor_in_init_nor_in_a_run(dropped: Dropping) -> None:
    run_one(dropped)
    eventually(lambda: [note["when"] for note in notes(dropped)] == ["import", "init", "run"], "all have run")
    for note in notes(dropped):
        assert note["uids"] == [UID] * 3
        assert note["gids"] == [GID] * 3
        assert set(note["groups"]) == {GID, OTHER_GID}
        assert not note["back"]


def test_files_belong_to_the_daemons_user_and_to_no_other(dropped: Dropping) -> None:
    run_one(dropped)
    eventually(lambda: len(notes(dropped)) == 3, "a message runs")
    paths = [path for name in ("state", "run") for path in [dropped.folder / name, *(dropped.folder / name).rglob("*")]]
    names = {path.name for path in paths}
    assert {"control.sock", "email.sock", "preforkd.pid", "lock", "ledger.db", "0.slot"} <= names
    for path in paths:
        found = path.stat()
        assert (found.st_uid, found.st_gid) == (UID, GID), path
        assert not found.st_mode & stat.S_IWOTH, path
    for path in (dropped.folder / "run").glob("*.sock"):
        assert path.stat().st_mode & 0o777 == 0o600, path
    for directory in ("state", "run"):
        assert (dropped.folder / directory).stat().st_mode & 0o777 == 0o750


def test_what_the_start_makes_as_root_is_the_users_too() -> None:
    with dropping() as under_test:
        started = under_test.cli("start")
        assert started.returncode == 0, started.stderr
        log = under_test.folder / "state" / "preforkd.log"
        assert (log.stat().st_uid, log.stat().st_gid) == (UID, GID)
        assert not log.stat().st_mode & stat.S_IRWXO
        assert under_test.cli("stop").returncode == 0
        assert under_test.pids() == {}


def test_a_state_directory_of_another_user_is_refused() -> None:
    with dropping() as under_test:
        (under_test.folder / "state").mkdir()
        os.chown(under_test.folder / "state", 1, 1)
        refused = under_test.cli("run")
        assert refused.returncode == 1
        assert f"belongs to uid 1, the daemon runs as uid {UID}" in refused.stderr
        assert not under_test.notes.read_text(), "no user code has run"


# ---- secrets --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["url_file", "whole url", "password"])
def with_password(request: pytest.FixtureRequest) -> Iterator[Dropping]:
    """A daemon whose broker cannot be reached, and that knows a password for it, in one way or another."""
    urls = {"url_file": 'url_file = "url"', "whole url": 'url = "${URL}"', "password": f'url = "{_PARTS}"'}
    with dropping(urls[request.param]) as under_test:
        (under_test.folder / "url").write_text(UNREACHABLE)
        (under_test.folder / "url").chmod(0o600)
        under_test.environment |= {"whole url": {"URL": UNREACHABLE}, "password": {"PASSWORD": PASSWORD}}.get(
            request.param, {}
        )
        under_test.run()
        under_test.processes()
        yield under_test


_PARTS = "amqp://mailer:${PASSWORD}@127.0.0.1:1/"


def test_a_password_is_in_no_argument_no_environment_of_children_no_log_and_no_status(with_password: Dropping) -> None:
    eventually(lambda: "consumer.disconnected" in with_password.output.read_text(), "it has tried to connect")
    eventually(lambda: len(notes(with_password)) >= 2, "the handler is imported and its init has run")
    said = [
        with_password.cli(*words).stdout for words in (("status",), ("status", "--json"), ("exits",), ("why", "email"))
    ]
    kept = [path.read_bytes() for path in (with_password.folder / "state").rglob("*") if path.is_file()]
    seen = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in with_password.pids().values()]
    for title, pid in with_password.pids().items():
        if title != "master":
            seen.append(Path(f"/proc/{pid}/environ").read_bytes())
    assert "connecting" in "".join(said)
    for text in [*said, with_password.output.read_text(), with_password.notes.read_text()]:
        assert PASSWORD not in text
    for data in [*kept, *seen]:
        assert PASSWORD.encode() not in data


def assert_closed(pid: int) -> None:
    """No core and no look into it: a process that is not dumpable has files in /proc that are root's (proc(5))."""
    assert Path(f"/proc/{pid}/mem").stat().st_uid == 0
    as_the_user = ["setpriv", f"--reuid={UID}", f"--regid={GID}", "--clear-groups", "cat"]
    for name in ("environ", "mem"):
        read = subprocess.run([*as_the_user, f"/proc/{pid}/{name}"], capture_output=True, timeout=20, check=False)
        assert (read.returncode, read.stdout) == (1, b"")
        assert b"Permission denied" in read.stderr


@pytest.mark.parametrize("prefix", ["", f"setpriv --reuid={UID} --regid={GID} --clear-groups"])
def test_who_knows_the_password_leaves_no_core_and_cannot_be_read_by_user_code(prefix: str) -> None:
    """Started by root, and by another user."""
    with dropping(f'url = "{_PARTS}"') as under_test:
        under_test.prefix = prefix
        if prefix:  # root takes no configuration from a folder of another user
            os.chown(under_test.folder, UID, GID)
        under_test.environment["PASSWORD"] = PASSWORD
        under_test.run()
        pids = under_test.processes()
        for title in ("master", "consumer email"):
            assert_closed(pids[title])
        assert Path(f"/proc/{pids['worker email/0']}/mem").stat().st_uid == UID, "or this shows nothing"
