"""`preforkd init` and `preforkd check`, with real files, real forkservers, and the embedded queue."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from supervisor.brokers import open_admin
from supervisor.cli import check, handler_probe, main, setup
from supervisor.cli.handler_probe import ImportFailed, WorkerFailed, probe_handler
from supervisor.config.load import load
from supervisor.config.schema import BrokerConfig, DaemonConfig, PoolConfig
from supervisor.errors import StateError
from supervisor.logs.redaction import Redactor
from supervisor.system.posix import own_children
from tests.support.descriptors import descriptors
from tests.support.site import make_site
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFORKD_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def handler(tmp_path: Path) -> Path:
    """The module that the pool under test names; each test writes what it needs into it."""
    return tmp_path / "myapp_under_check.py"


def write_config(folder: Path, more: str = "", broker: str = 'url = "embedded:"', max_memory: str = "64MiB") -> None:
    text = f"""
        [daemon]
        state_dir = "state"
        runtime_dir = "run"
        [broker]
        {broker}
        [pools.email]
        queue = "email"
        handler = "myapp_under_check:send"
        path = ["."]
        max_memory = "{max_memory}"
        {more}
        """
    (folder / "preforkd.toml").write_text(text)


def pool(folder: Path, **fields: object) -> PoolConfig:
    return PoolConfig("email", "email", "myapp_under_check:send", path=(str(folder),), **fields)  # type: ignore[arg-type]


# ---- init ---------------------------------------------------------------------------------------------------------


def test_init_writes_a_file_that_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init"]) == 0
    assert "wrote preforkd.toml; next: preforkd check, then preforkd start" in capsys.readouterr().out
    config = load(None)
    assert config.source == str(tmp_path / "preforkd.toml")
    assert config.broker.embedded
    assert config.pools["default"].handler == "workers.log:run"
    assert (tmp_path / "preforkd.toml").stat().st_mode & 0o777 == 0o640


def test_init_writes_the_file_that_other_commands_are_told_to_read(tmp_path: Path) -> None:
    for argv in (["init", "--config", "named.toml"], ["--config", "first.toml", "init"]):
        assert main(argv) == 0
    assert main(["init", "given.toml", "--config", "unused.toml"]) == 0

    assert {path.name for path in tmp_path.glob("*.toml")} == {"named.toml", "first.toml", "given.toml"}


def test_init_keeps_state_beside_the_file_unless_root_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["init"]) == 0
    config = load(None)
    assert config.daemon.state_dir == str(tmp_path / "preforkd-state")
    assert config.daemon.runtime_dir == str(tmp_path / "preforkd-state" / "run")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert main(["init", "--force"]) == 0
    assert load(None).daemon == DaemonConfig()


def test_init_replaces_nothing_unless_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "preforkd.toml"
    file.write_text("mine")
    assert main(["init"]) == 1
    assert "error: preforkd.toml is there already; --force replaces it" in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert main(["init", "--force"]) == 0
    assert "[pools.default]" in file.read_text()
    assert list(tmp_path.iterdir()) == [file]


def test_init_takes_a_folder_or_another_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "conf").mkdir()
    assert main(["init", "conf"]) == 0
    assert "next: preforkd --config conf/preforkd.toml check" in capsys.readouterr().out
    assert main(["init", "conf/other.toml"]) == 0
    assert {path.name for path in (tmp_path / "conf").iterdir()} == {"preforkd.toml", "other.toml"}


def test_init_makes_the_folder(tmp_path: Path) -> None:
    assert main(["init", "new/folder/preforkd.toml"]) == 0
    assert load(str(tmp_path / "new/folder/preforkd.toml")).broker.embedded
    assert (tmp_path / "new/folder").stat().st_mode & 0o007 == 0


def test_init_explains_a_folder_that_cannot_be_made(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "/proc/none/preforkd.toml"]) == 1
    assert "/proc/none/preforkd.toml cannot be written: No such file or directory" in capsys.readouterr().err


def test_every_key_the_template_shows_in_comments_is_one_that_loads(tmp_path: Path) -> None:
    lines = setup.template(DaemonConfig("state", "run")).splitlines()
    shown = [line.removeprefix("# ") if " = " in line.split("#", 2)[1] else line for line in lines if line[:2] == "# "]
    kept = "\n".join(line.removeprefix("# ") if line in map("# {}".format, shown) else line for line in lines)
    uncommented = "\n".join(
        line for line in kept.splitlines() if not line.startswith(('url = "amqp', "url_file", "user ="))
    ).replace("# [pools", "[pools")
    (tmp_path / "preforkd.toml").write_text(uncommented)
    config = load(None)
    assert config.pools["default"].soft_timeout_s == 25.0
    assert config.pools["default"].environment == {"DJANGO_SETTINGS_MODULE": "mysite.settings"}


# ---- check --------------------------------------------------------------------------------------------------------


def test_check_finds_nothing_wrong_with_a_handler_that_imports(
    tmp_path: Path, handler: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    handler.write_text("def send(message): pass\n")
    write_config(tmp_path)
    assert main(["check"]) == 0
    out = capfd.readouterr().out
    assert "ok       pools.email.handler: myapp_under_check:send imports in " in out
    assert f"ok       broker.url: the embedded queue will be made in {tmp_path}/state" in out
    assert "0 error(s)" in out
    assert not (tmp_path / "state").exists()


def test_check_asks_an_embedded_queue_that_is_there(
    tmp_path: Path, handler: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    handler.write_text("def send(message): pass\n")
    write_config(tmp_path)
    (tmp_path / "state").mkdir()
    assert main(["check"]) == 0
    assert list((tmp_path / "state").iterdir()) == []
    with open_admin(BrokerConfig(), str(tmp_path / "state")) as admin:
        assert main(["check"]) == 0
        assert "it will be declared" in capfd.readouterr().out
        admin.ensure_queue("email")
    assert main(["check"]) == 0
    assert "0 ready, 0 consumer(s)" in capfd.readouterr().out


def test_check_misses_a_queue_that_it_may_not_declare(
    tmp_path: Path, handler: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    handler.write_text("def send(message): pass\n")
    write_config(tmp_path, "declare = false")
    (tmp_path / "state").mkdir()
    with open_admin(BrokerConfig(), str(tmp_path / "state")):
        assert main(["check"]) == 78
    assert "make it, or set declare = true" in capfd.readouterr().out


def test_check_tells_all_mistakes_of_a_file_and_leaves_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_config(tmp_path, 'timout = "3s"\nworkers = 0')
    assert main(["check"]) == 78
    out = capsys.readouterr().out
    assert 'pools.email.timout = "3s": there is no such key (did you mean "timeout"?)' in out
    assert "pools.email.workers = 0: must be from 1" in out
    assert "2 error(s), 0 warning(s)" in out


def test_check_without_a_file_points_to_init(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supervisor.config.location.SEARCHED", ("preforkd.toml",))
    assert main(["check"]) == 78
    assert "`preforkd init` writes one" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (None, "there is no module 'myapp_under_check'"),
        ("import no_such_module_at_all", "no_such_module_at_all"),
        ("def sent(message): pass", "did you mean 'sent'?"),
        ("send = 3", "not a function"),
        ("def send(): pass", "send"),
        ("raise ValueError('at import')", "at import"),
        ("import os; os._exit(3)", "its import ended the process, with status 3"),
        ("import os; os.kill(os.getpid(), 11)", "its import ended the process, by SIGSEGV"),
        ("def send(message: pass", "SyntaxError"),
    ],
)
def test_check_says_why_a_handler_cannot_be_used_and_leaves_78(
    tmp_path: Path, handler: Path, capfd: pytest.CaptureFixture[str], source: str | None, said: str
) -> None:
    if source is not None:
        handler.write_text(source)
    write_config(tmp_path)
    assert main(["check"]) == 78
    out = capfd.readouterr().out
    assert said in out.split("error    pools.email.handler: ")[1].split("Traceback")[0]


def test_check_reports_a_broker_that_cannot_be_reached_without_its_password(
    tmp_path: Path, handler: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        handler.write_text("def send(message): pass\n")
        write_config(tmp_path, broker=f'url = "amqp://user:geheim@127.0.0.1:{port}/v"')
        (tmp_path / "preforkd.toml").chmod(0o644)
        assert main(["check"]) == 1
    out = capfd.readouterr().out
    assert "error    broker.url: " in out
    assert "all users may read the password in it" in out
    assert "geheim" not in out


def test_check_warns_of_handlers_that_would_run_as_root(
    tmp_path: Path, handler: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    handler.write_text("def send(message): pass\n")
    write_config(tmp_path)
    assert main(["check"]) == 0
    assert "warning  daemon.user: handlers will run as root" in capfd.readouterr().out


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_check_sees_the_rights_of_the_daemons_user(tmp_path: Path) -> None:
    write_config(tmp_path, broker='url = "amqp://127.0.0.1:1"')
    file = tmp_path / "preforkd.toml"
    file.write_text(file.read_text().replace('runtime_dir = "run"', 'runtime_dir = "/run/x"\nuser = "nobody"'))
    (tmp_path / "state").mkdir(mode=0o700)
    tmp_path.chmod(0o700)
    command = [sys.executable, "-m", "supervisor", "--config", str(file), "check"]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "HOME": "/"}
    )
    assert "handlers will run as root" not in result.stdout
    assert result.returncode == 78, result
    assert f"{tmp_path}/state cannot be reached by uid" in result.stdout
    assert "ok       daemon.runtime_dir: /run/x will be made at the start" in result.stdout
    closed = next(folder for folder in reversed(file.parents) if not folder.stat().st_mode & stat.S_IXOTH)
    told = f"user nobody may not pass {closed}, which leads to {file}: chmod o+x {closed}"
    assert f"error    {file}: {told}" in result.stdout


def test_check_names_a_tls_file_that_is_not_there(
    tmp_path: Path, handler: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    handler.write_text("def send(message): pass\n")
    write_config(tmp_path, broker='url = "embedded:"\ntls = { ca_file = "no-ca.pem" }')
    assert main(["check"]) == 78
    assert f"broker.tls.ca_file: {tmp_path}/no-ca.pem cannot be read: No such file" in capfd.readouterr().out


def test_a_finding_from_outside_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    check._print(check.Finding(check.Level.ERROR, "x", "\x1b[2J", detail="a\n\x1b]0;b"), Redactor())
    assert "\x1b" not in capsys.readouterr().out


# ---- the probe ----------------------------------------------------------------------------------------------------


def test_the_probe_leaves_no_process_and_no_descriptor(tmp_path: Path, handler: Path) -> None:
    handler.write_text(
        "import pathlib, subprocess\n"
        "pathlib.Path(__file__).with_name('pid').write_text(str(subprocess.Popen(['sleep', '60']).pid))\n"
        "def send(message): pass\n"
    )
    before = own_children(), descriptors()
    probe_handler(pool(tmp_path))
    program = int((tmp_path / "pid").read_text())
    try:
        assert (own_children(), descriptors()) == before
        eventually(lambda: not _running(program), "the program started by the import is gone", timeout_s=5)
    finally:
        with suppress(ProcessLookupError):
            os.kill(program, signal.SIGKILL)


def _running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_import_that_never_ends_is_given_up(tmp_path: Path, handler: Path) -> None:
    handler.write_text("import threading; threading.Event().wait()\n")
    with pytest.raises(ImportFailed, match=r"pools.email.handler = .*: its import takes longer than 1s"):
        probe_handler(pool(tmp_path), timeout_s=1.0)


def test_the_probe_uses_the_pools_environment(tmp_path: Path, handler: Path) -> None:
    handler.write_text("import os\nos.environ['FOR_THE_CHECK']\ndef send(message): pass\n")
    with pytest.raises(ImportFailed, match="FOR_THE_CHECK"):
        probe_handler(pool(tmp_path))
    assert probe_handler(pool(tmp_path, environment={"FOR_THE_CHECK": "1"})).import_s < handler_probe.TIMEOUT_S


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root")
@pytest.mark.parametrize(("mode", "owner"), [(0o777, 0), (0o750, 12345)])
def test_check_and_start_say_the_same_of_a_directory(tmp_path: Path, mode: int, owner: int) -> None:
    """A volume as a pod has it: of another user, or open to all."""
    with make_site(tmp_path) as site:
        state = site.folder / "state"
        state.mkdir()
        state.chmod(mode)
        os.chown(state, owner, owner)
        checked, started = site.cli("check"), site.cli("start")
        said = started.stderr.removeprefix("error: ").splitlines()[0]
        assert started.returncode == 1
        assert f"daemon.state_dir: {said}" in checked.stdout
        assert checked.returncode == 1


def test_check_names_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    with make_site(tmp_path) as site:
        site.config.write_text(site.config.read_text() + '[log]\nfile = "none/log"\n')
        done = site.cli("check")
        assert "log.file" in done.stdout
        assert "correct its rights, or `file` in [log]" in done.stdout


def test_a_handler_is_tried_out_where_nothing_temporary_can_be_written(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, handler: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler.write_text("def send(message): pass\n")
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/none"])
    monkeypatch.setattr(tempfile, "tempdir", None)
    state = tmp_path_factory.mktemp("s")  # short: a socket's path has at most 107 bytes
    assert probe_handler(pool(tmp_path), places=[state]).import_s < handler_probe.TIMEOUT_S
    assert list(state.iterdir()) == []
    with pytest.raises(StateError, match="name one in TMPDIR"):
        probe_handler(pool(tmp_path), places=[Path("/proc/none")])


@pytest.mark.parametrize(
    ("left", "told"),
    [
        ("os.register_at_fork(after_in_child=lambda: os._exit(9))", "died or did not answer"),
        ("import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))", "Too many open files|no pipe"),
        (
            "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**20, 2**20))",
            "fork failed|did not answer|status|allocate memory",
        ),
        ("os.setgid(65534); os.setuid(65534)", "0.slot: cannot be mapped: Permission denied"),
    ],
)
def test_check_finds_an_import_after_which_no_worker_can_be_forked(
    tmp_path: Path, handler: Path, left: str, told: str
) -> None:
    """Its `init` runs in none: it would have made a file."""
    if "setuid" in left and os.geteuid() != 0:
        pytest.skip("only root can become another user")
    handler.write_text(
        f"import os\n{left}\ndef send(message): ...\ndef prepare(): open({str(tmp_path / 'ran')!r}, 'w')\n"
    )
    before = own_children()
    with pytest.raises(ImportFailed, match=f"no worker can be forked after its import: .*({told})"):
        probe_handler(pool(tmp_path, init="myapp_under_check:prepare"))
    assert not (tmp_path / "ran").exists()
    assert own_children() == before


# ---- the worker of the probe ----------------------------------------------------------------------------------------


def with_init(handler: Path, body: str) -> None:
    """A handler whose `init` is called prepare."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    handler.write_text(
        "import atexit, os, pathlib, subprocess, sys, threading, time\nHERE = pathlib.Path(__file__).parent\n"
        f"def send(message): ...\ndef prepare():\n{lines}"
    )


INIT = "myapp_under_check:prepare"


def test_check_runs_init_in_a_worker_and_ends_what_it_has_begun(tmp_path: Path, handler: Path) -> None:
    with_init(
        handler,
        "atexit.register(lambda: (HERE / 'closed').touch())\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "child = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        "(HERE / 'ran').write_text(f'{os.getpid()} {child.pid}')",
    )
    before = own_children(), descriptors()
    took = probe_handler(pool(tmp_path, init=INIT))
    assert took.import_s > 0 < took.boot_s
    worker, child = map(int, (tmp_path / "ran").read_text().split())
    assert worker != os.getpid()
    assert (tmp_path / "closed").exists(), "its exit callbacks have run"
    assert not _running(child)
    assert (own_children(), descriptors()) == before


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ("raise ConnectionError('no database at db:5432')", 1, "ConnectionError: no database at db:5432"),
        ("sys.exit(3)", 1, "SystemExit: 3"),
        ("os._exit(3)", 78, "a worker cannot boot: it ended with status 3"),
        ("os.kill(os.getpid(), 9)", 78, "a worker cannot boot: it ended by SIGKILL"),
        ("async def later(): ...\nreturn later()", 78, "init returned"),
        ("HERE.kept = bytearray(os.urandom(8 * 2**20))", 78, "max_memory = 4MiB leaves no room for messages"),
    ],
)
def test_check_shows_why_no_worker_can_boot(
    tmp_path: Path, handler: Path, capfd: pytest.CaptureFixture[str], body: str, status: int, told: str
) -> None:
    with_init(handler, body.replace("HERE.kept", "global kept; kept"))
    write_config(tmp_path, f'init = "{INIT}"', max_memory="4MiB" if "max_memory" in told else "64MiB")
    before = own_children()
    assert main(["check"]) == status
    out = capfd.readouterr().out
    assert "error    pools.email.init: a worker cannot boot: " in out.replace("'myapp_under_check:prepare': ", "")
    assert told in out
    assert "Traceback" not in out or "myapp_under_check.py" in out
    assert own_children() == before


def test_check_shows_where_init_hangs(tmp_path: Path, handler: Path) -> None:
    with_init(handler, "threading.Event().wait()")
    with pytest.raises(WorkerFailed, match="not ready within boot_timeout = 500ms") as failed:
        probe_handler(pool(tmp_path, init=INIT, boot_timeout_s=0.5))
    assert f'File "{handler}", line 5 in prepare' in failed.value.stack


def test_check_names_a_good_init(tmp_path: Path, handler: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with_init(handler, "pass")
    write_config(tmp_path, f'init = "{INIT}"')
    assert main(["check"]) == 0
    assert f"ok       pools.email.init: {INIT} runs; a worker is ready in " in capfd.readouterr().out


def test_check_names_a_package_of_the_application_that_hides_a_ready_made_handler(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers/__init__.py").touch()
    (tmp_path / "workers/log.py").write_text("def run(message): pass\n")
    write_config(tmp_path)
    config = tmp_path / "preforkd.toml"
    config.write_text(config.read_text().replace("myapp_under_check:send", "workers.log:run"))
    assert main(["check"]) == 0
    hides = f"{tmp_path}/workers/__init__.py hides preforkd's own workers.log"
    assert f"warning  pools.email.handler: {hides}; name supervisor.workers.log" in capfd.readouterr().out
