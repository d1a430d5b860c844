"""A daemon that is started as root and has to become another user: an account that exists for the test alone.

The account is in copies of /etc/passwd and /etc/group that only the daemon sees (a mount namespace of its own).
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.nobody import a_public_folder, public_path, public_python
from tests.support.waiting import eventually

USER, UID, GID, OTHER_GID = "pfktest", 61234, 61235, 61236

_ACCOUNTS = {
    "passwd": f"{USER}:x:{UID}:{GID}::/:/bin/sh",
    "group": f"{USER}:x:{GID}:\nmailers:x:{OTHER_GID}:{USER}",
}

_CONFIG = """
[daemon]
state_dir = "state"
runtime_dir = "run"
user = "pfktest"
[log]
level = "debug"
{log}
[broker]
{broker}
[pools.email]
queue = "email"
handler = "dropped_handler:run"
init = "dropped_handler:init"
path = ["."]
workers = 1
prefetch = 1
timeout = "60s"
"""

_HANDLER = """
import json, os, subprocess
from pathlib import Path

def note(when):
    try:
        os.setuid(0)
        back = True
    except PermissionError:
        back = False
    facts = dict(when=when, uids=os.getresuid(), gids=os.getresgid(), groups=os.getgroups(), back=back,
                 environment=dict(os.environ))
    with open(Path(__file__).parent / "notes", "a") as notes:
        notes.write(json.dumps(facts) + "\\n")

note("import")

def init():
    note("init")

def run(message):
    note("run")
    subprocess.run(["sleep", "1000"])
"""


class Dropping:
    """A public folder with configuration and handler in it, and root's daemon on them."""

    def __init__(self, folder: Path, python: str, broker: str, log: str) -> None:
        self.folder = folder
        self.config = folder / "preforkd.toml"
        self.config.write_text(_CONFIG.format(broker=broker, log=log))
        (folder / "dropped_handler.py").write_text(_HANDLER)
        for name, line in _ACCOUNTS.items():
            (folder / name).write_text(f"{Path('/etc', name).read_text().rstrip()}\n{line}\n")
        self.notes = folder / "notes"
        self.notes.touch()
        self.notes.chmod(0o666)
        self.output = folder / "output"
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": public_path(),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._python = python
        self.prefix = ""
        """What stands before the interpreter in every command."""
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *arguments: str) -> list[str]:
        """The command line for `preforkd` here, where the account exists."""
        mounts = "".join(f"mount --bind {self.folder}/{name} /etc/{name} && " for name in _ACCOUNTS)
        program = f'{mounts} exec {self.prefix} {self._python} -P -m supervisor --config {self.config} "$@"'
        return ["unshare", "--mount", "sh", "-c", program, "sh", *arguments]

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, as root."""
        return subprocess.run(
            self.command(*arguments), env=self.environment, capture_output=True, text=True, timeout=60
        )

    def run(self) -> None:
        """Start `preforkd run` as root."""
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                self.command("run"), env=self.environment, stdout=output, stderr=output, start_new_session=True
            )

    def pids(self) -> dict[str, int]:
        """The processes of the daemon by their titles: `master`, `worker email/0`."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and (title := self._title(entry)):
                found[title] = int(entry.name)
        return found

    def _title(self, entry: Path) -> str:
        """The title of a daemon's process; "" for those of other folders."""
        try:
            title = (entry / "cmdline").read_bytes().split(b"\0")[0].decode()
            ours = title.startswith("preforkd: ") and any(
                self.folder in descriptor.readlink().parents for descriptor in (entry / "fd").iterdir()
            )
        except OSError:
            return ""
        return title.removeprefix("preforkd: ") if ours else ""

    def processes(self) -> dict[str, int]:
        """The four processes, once they are there."""
        wanted = {"master", "forkserver email", "consumer email", "worker email/0"}
        return eventually(lambda: found if wanted <= (found := self.pids()).keys() else None, "all are there") or {}

    def clean_up(self) -> None:
        """End all that was started here."""

        def all_gone() -> bool:
            left = self.pids()
            for pid in left.values():
                subprocess.run(["kill", "-9", str(pid)], check=False, stderr=subprocess.DEVNULL)
            return not left

        if self.process is not None:
            self.process.kill()
            self.process.wait()
        eventually(all_gone, "the daemon's processes have ended")
        for pid in self._session():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _session(self) -> list[int]:
        """Processes left by handlers: their session is that of the daemon's first process."""
        if self.process is None:
            return []
        numbers = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
        return [pid for pid in numbers if session_of(pid) == self.process.pid]


def session_of(pid: int) -> int | None:
    """None where there is no such process any more."""
    with suppress(ProcessLookupError):
        return os.getsid(pid)
    return None


@contextmanager
def dropping(broker: str = 'url = "embedded:"', log: str = "") -> Iterator[Dropping]:
    """Skips the test where there is no interpreter for all users, or no mount namespace can be had."""
    if os.geteuid() != 0:
        pytest.skip("needs root to give it up")
    python = public_python()
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True, timeout=20).returncode:
        pytest.skip("no mount namespace can be made here")
    with a_public_folder() as folder:
        under_test = Dropping(folder, python, broker, log)
        try:
            yield under_test
        except BaseException:
            print(under_test.output.read_text() if under_test.output.exists() else "no output")  # noqa: T201
            raise
        finally:
            under_test.clean_up()
