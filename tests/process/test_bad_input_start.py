"""What cannot work is refused at the start: what is wrong, where, what to do; the right exit code; nothing is left."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.disks import small_disk
from tests.support.nobody import NOBODY, needs_root
from tests.support.site import Site, make_site
from tests.support.waiting import eventually

CONFIG, FAILED = 78, 1


class Case(NamedTuple):
    """What is spoilt, the exit code, and what the user must be told (`{}` is the site's folder)."""

    spoil: Callable[[Site], object]
    status: int
    told: tuple[str, ...]


def config(old: str, new: str) -> Callable[[Site], object]:
    """Another text in the configuration."""
    return lambda site: site.config.write_text(site.config.read_text().replace(old, new))


def handler(code: str) -> Callable[[Site], object]:
    """Another handler."""
    return lambda site: (site.folder / "site_handler.py").write_text(code)


def init_hook(code: str) -> Callable[[Site], object]:
    """A handler with an init hook."""
    return lambda site: (handler(code)(site), config("workers = 1", 'workers = 1\ninit = "site_handler:boot"')(site))


def file(name: str, content: bytes = b"garbage" * 1000) -> Callable[[Site], object]:
    """A file where preforkd has one of its own, or none."""

    def spoil(site: Site) -> None:
        path = site.folder / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        path.write_bytes(content)

    return spoil


def folder(name: str, mode: int = 0o750, owner: int = -1) -> Callable[[Site], object]:
    """A folder that is there already."""

    def spoil(site: Site) -> None:
        path = site.folder / name
        path.mkdir(parents=True)
        path.chmod(mode)
        os.chown(path, owner, -1)

    return spoil


def foreign_socket(site: Site) -> None:
    """A control socket that another user has made."""
    path = site.folder / "run" / "control.sock"
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    os.chown(path, NOBODY, NOBODY)


CASES = {
    # ---- the configuration
    "no TOML": Case(config("[broker]", "[broker"), CONFIG, ("{}/preforkd.toml", "not TOML")),
    "an unknown key": Case(config("workers", "wrokers"), CONFIG, ("pools.mail.wrokers = 1", 'did you mean "workers"')),
    "a bad duration": Case(config('"20s"', '"20 parsecs"'), CONFIG, ("daemon.stop_timeout", "one of ms, s, m, h, d")),
    "a socket path that is too long": Case(
        config('"run"', f'"{"r" * 100}"'), CONFIG, ("daemon.runtime_dir", "107 bytes", "choose a shorter runtime_dir")
    ),
    # ---- the handler
    "no such module": Case(
        config("site_handler:", "sight_handler:"), CONFIG, ("pools.mail.handler", "no module 'sight_handler'", "`path`")
    ),
    "no such function": Case(handler("def rum(message): ..."), CONFIG, ("pools.mail.handler", "did you mean 'rum'?")),
    "an import that raises": Case(
        handler("1/0"), CONFIG, ("pools.mail.handler", "importing it raised ZeroDivisionError: division by zero")
    ),
    "no Python": Case(handler("def run(:"), CONFIG, ("pools.mail.handler", "SyntaxError", "site_handler.py, line 1")),
    "no function": Case(handler("run = 3"), CONFIG, ("pools.mail.handler", "is not a function but of type int")),
    "a thread that is left": Case(
        handler(
            "import threading\nthreading.Thread(target=threading.Event().wait, name='poller', daemon=True).start()\n"
            "def run(message): ..."
        ),
        CONFIG,
        ("pools.mail", "left threads running: poller", "`init`"),
    ),
    "a socket that is left": Case(
        handler("import socket\nkept = socket.create_server(('127.0.0.1', 0))\ndef run(message): ..."),
        CONFIG,
        ("pools.mail", "left sockets open: AF_INET at ('127.0.0.1'", "`init`"),
    ),
    "an init that raises": Case(
        init_hook("def run(message): ...\ndef boot(): raise RuntimeError('no database')"),
        FAILED,
        ("mail/0 cannot boot: RuntimeError: no database",),
    ),
    # ---- files and folders
    "a state directory that is a file": Case(file("state"), FAILED, ("{}/state: this is not a directory", "remove it")),
    "a state directory of another user": Case(
        folder("state", owner=NOBODY), FAILED, ("{}/state: this directory belongs to uid 65534", "chown")
    ),
    "a state directory that all users may write": Case(
        folder("state", mode=0o777), FAILED, ("{}/state: all users can write", "chmod o-w {}/state")
    ),
    "a state directory that cannot be made": Case(
        config('"state"', '"/proc/state"'), FAILED, ("/proc/state: this directory cannot be made", "choose another")
    ),
    "a user that is not there": Case(
        config("[daemon]", '[daemon]\nuser = "no-such-user"'), FAILED, ("daemon.user", "'no-such-user'", "useradd")
    ),
    "a log in no folder": Case(
        config("[broker]", '[log]\nfile = "/proc/none/log"\n[broker]'), FAILED, ("/proc/none/log", "check [log] file")
    ),
    "a log that is a folder": Case(
        config("[broker]", '[log]\nfile = "/proc"\n[broker]'), FAILED, ("/proc", "Is a directory", "check [log] file")
    ),
    "a PID file that is a folder": Case(
        folder("run/preforkd.pid"), FAILED, ("{}/run/preforkd.pid: cannot be opened: Is a directory", "remove it")
    ),
    "a control socket of another user": Case(
        foreign_socket, FAILED, ("{}/run/control.sock: this socket belongs to uid 65534", "choose another runtime_dir")
    ),
    "a control socket that is a file": Case(
        file("run/control.sock"), FAILED, ("{}/run/control.sock: this is not a socket", "remove it")
    ),
    "a link socket that cannot be made": Case(
        folder("run/mail.sock"), FAILED, ("{}/run/mail.sock: the link socket cannot be made there", "runtime_dir")
    ),
    "a ledger that is garbage": Case(
        file("state/pools/mail/ledger.db"), FAILED, ("{}/state/pools/mail/ledger.db: the file is damaged", "move it")
    ),
    "an embedded queue that is garbage": Case(
        file("state/embedded.db"), FAILED, ("{}/state/embedded.db: it is not an embedded queue", "move it away")
    ),
}
NEED_ROOT = {"a state directory of another user", "a user that is not there", "a control socket of another user"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs_root if name in NEED_ROOT else ()) for name in CASES])
def test_a_start_that_cannot_work_says_what_where_and_what_to_do(site: Site, name: str) -> None:
    case = CASES[name]
    case.spoil(site)

    refused = site.cli("start", "--timeout", "20")

    assert (refused.returncode, refused.stdout) == (case.status, ""), refused.stderr
    assert refused.stderr.startswith("error: ")
    for told in case.told:
        assert told.replace("{}", str(site.folder)) in refused.stderr
    for text in (refused.stderr, log_without_stacks(site)):
        assert "Traceback" not in text
        assert "bug" not in text
    eventually(lambda: not site.processes(), "nothing is left of it: the daemon says why as the last thing it does")


def test_the_log_tells_why_a_start_failed(site: Site) -> None:
    handler("run = 3")(site)

    site.cli("start")

    assert "is not a function but of type int" in log_without_stacks(site)


# ---- what heals by itself -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "left",
    [b"", b"\xff\x00 no pid", b"1 1\n", b"%d 1\n" % os.getpid()],
    ids=["empty", "garbage", "a pid that lives", "our own pid, an earlier start"],
)
def test_a_stale_pid_file_or_a_reused_pid_blocks_no_start(site: Site, left: bytes) -> None:
    file("run/preforkd.pid", left)(site)

    site.ok("start")

    assert site.status()["state"] == "running"


def test_damaged_files_that_can_be_made_again_are_set_aside_and_named(site: Site) -> None:
    files = ["exits.tally.json", "pools/mail/slots/0.slot"]
    for name in files:
        file(f"state/{name}")(site)
    file("state/exits.jsonl")(site)

    site.ok("start")

    for name in files:
        assert (site.folder / "state" / f"{name}.damaged").read_bytes().startswith(b"garbage")
        assert f"{site.folder}/state/{name}: " in log_without_stacks(site)
    site.ok("publish", "mail", stdin="hello\n")
    site.wait_for_counter("done", 1)
    site.ok("stop")
    assert [record["cause"] for record in site.exits()] == ["clean_stop"]


def test_a_message_whose_slot_file_is_garbage_is_in_doubt_and_its_re_run_is_declared(site: Site) -> None:
    config("max_attempts = 1", "max_attempts = 3")(site)
    os.mkfifo(site.folder / "gate")
    site.ok("start")
    site.ok("publish", "mail", "--id-prefix", "m", stdin="wait gate\n")
    site.wait_until_running("m0")
    site.end()
    file("state/pools/mail/slots/0.slot")(site)

    site.ok("start")

    (site.folder / "gate").write_text("go")
    site.wait_for_counter("done", 1)
    assert site.runs() == ["m0 1 1", "m0 1 2"]


# ---- two daemons ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["start", "run"])
@pytest.mark.parametrize("shared", ["state", "run"])
def test_a_directory_has_one_daemon(site: Site, shared: str, command: str) -> None:
    site.ok("start")
    first = site.status()["pid"]
    own = {"state": '"run"', "run": '"state"'}[shared]
    mine = site.config.read_text()
    site.config.write_text(mine.replace(own, '"other"'))

    second = site.cli(command)

    assert second.returncode == FAILED
    assert f"pid {first}" in second.stderr
    assert "`preforkd status` shows it" in second.stderr
    site.config.write_text(mine)
    assert site.status()["pid"] == first, "the first one has taken no harm"


# ---- a start that takes long ------------------------------------------------------------------------------------


def test_a_start_that_takes_too_long_says_what_it_waits_for(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    config("embedded:", f"amqp://guest:sesame@127.0.0.1:{port}/")(site)
    config("workers = 1", "workers = 1\nprefetch = 8")(site)

    late = site.cli("start", "--timeout", "2")

    assert late.returncode == FAILED
    assert "not ready after 2 s; it goes on starting in the background" in late.stderr
    assert re.search(rf"pool mail: connecting amqp://127\.0\.0\.1:{port}/ \(nothing listens there", late.stderr)
    assert "sesame" not in late.stderr + log_without_stacks(site)
    site.ok("stop")


def test_a_start_that_no_command_waits_for_any_more_goes_on(site: Site) -> None:
    handler("from pathlib import Path\nPath(__file__).with_name('gate').read_text()\ndef run(message): ...")(site)
    os.mkfifo(site.folder / "gate")

    late = site.cli("start", "--timeout", "1")

    assert (late.returncode, "not ready after 1 s" in late.stderr) == (FAILED, True)
    (site.folder / "gate").write_text("go")
    site.wait_for_state("running")


@pytest.mark.parametrize("command", ["start", "run"])
def test_a_full_disk_at_the_start_is_named(tmp_path: Path, command: str) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk, make_site(tmp_path) as site:
        config('"state"', '"disk/state"')(site)
        disk.fill()

        refused = site.cli(command)

        assert refused.returncode == FAILED
        assert f"{disk.path}/state/lock: cannot be written: No space left on device; free some space" in refused.stderr
        disk.free()
        site.ok("start")
        site.ok("stop")


def test_check_finds_a_disk_that_is_full_as_start_does(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk, make_site(tmp_path) as site:
        config('"state"', '"disk/state"')(site)
        disk.fill()

        checked = site.cli("check")

        assert checked.returncode == FAILED
        told = f"daemon.state_dir: {disk.path}/state: no space is left on its file system; free some space"
        assert told in checked.stdout


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("check", "is not a directory that"),
        ("start", "preforkd.log"),
        ("run", "state/lock: cannot be opened: Read-only file system; name a directory that can"),
    ],
)
def test_a_state_directory_that_is_read_only_is_not_blamed_on_its_owner(
    tmp_path: Path, command: str, told: str
) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk, make_site(tmp_path) as site:
        config('"state"', '"disk/state"')(site)
        (disk.path / "state").mkdir(mode=0o700)
        subprocess.run(["mount", "-o", "remount,ro", disk.path], check=True, timeout=20)

        refused = site.cli(command)

        assert refused.returncode == FAILED
        assert told in refused.stdout + refused.stderr
        assert "owner" not in refused.stdout + refused.stderr


def test_a_disk_that_fills_up_during_the_start_is_waited_for(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk, make_site(tmp_path) as site:
        config('"state"', '"disk/state"')(site)
        disk.fill()
        disk.requeue(100_000)

        late = site.cli("start", "--timeout", "2")

        assert late.returncode == FAILED
        assert re.search(r"pool mail: .*the disk is full.*free some space", late.stderr)
        disk.free()
        site.wait_for_state("running")


def log_without_stacks(site: Site) -> str:
    """The daemon's log, all of it whole JSON lines, without the stacks of user code (its own worker logs them, too)."""
    path = site.log_path
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for line in lines:
        line.pop("stack", "")
        if "mail/" in line["process"]:
            line.pop("exc_info", "")
    return "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
