"""A machine with a real systemd, booted in a container for tests: this very file system, with every change in memory.

It shares the network with us, so that it reaches a test's private RabbitMQ node; everything in it ends with the test
run, even when that is killed. What it needs is checked, and under CI=true demanded.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from tests.support.source_tree import ROOT
from tests.support.tools import cannot
from tests.support.waiting import eventually

PROGRAM = "/opt/preforkd/bin/preforkd"
ENVIRONMENT = {"LD_LIBRARY_PATH": "/opt/python/lib"}
"""A Python with a library of its own looks for it where it was built, and only root may look there."""

_PATHS = {"PATH": "/usr/local/bin:/usr/bin:/usr/sbin", "LANG": "C.UTF-8"}

_TOOLS = ("systemd-nspawn", "nsenter", "setpriv", "unshare")
_PACKAGE = "systemd-container"
_TIMEOUT_S = 60.0
_INSTALL_TIMEOUT_S = 300.0

_UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_BOOT = """
mount -t tmpfs tmpfs "$1/memory"
mkdir "$1/memory/changed" "$1/memory/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/memory/changed,workdir=$1/memory/work" "$1/root"
cp -R "$1/tree/." "$1/root"
for group in $3; do
    mkdir "$group"
    echo $$ > "$group/cgroup.procs"
done
exec systemd-nspawn --quiet --directory="$1/root" --machine="$2" --register=no --keep-unit \\
    --console=pipe --bind="$1/share:/share" --bind-ro="$4:/opt/src" --bind-ro="$5:/opt/python" \\
    --bind-ro="$6:/opt/packages" --boot systemd.unit=machine.target systemd.journald.max_level_console=emerg
"""
"""Run as the init of namespaces of its own: mounts and processes end with it. $1: our folder, $2: the machine's name,
$3: its control groups, $4: the checkout, $5: Python, $6: its packages."""

_FORGET = """
rm -rf /etc/preforkd /var/lib/preforkd /opt/preforkd* /usr/local/bin/preforkd /etc/systemd/system/preforkd*
! getent passwd preforkd || userdel preforkd
"""
"""What this machine may have of preforkd, and a bare one must not."""

_TARGET = """
[Unit]
Description=All that a test needs
Requires=sysinit.target
After=sysinit.target
AllowIsolate=yes
"""

_SCRIPT = f"""#!{Path(PROGRAM).parent}/python
import sys
from supervisor.cli import main
sys.exit(main())
"""


def require_machine() -> None:
    """Skip (or fail, under CI=true) where no machine can be booted."""
    reason = _obstacle()
    if reason:
        cannot(reason)


def _obstacle() -> str:
    if os.geteuid() != 0:
        return "booting a machine needs root"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} missing: apt-get install {_PACKAGE}"
    may_mount = subprocess.run([*_UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True)
    return "" if may_mount.returncode == 0 else "booting a machine needs to mount file systems, which is forbidden here"


class Machine:
    """`folder`: where its files are kept. `share`: a folder that is /share inside.

    preforkd is installed in /opt, and has its user, unless it is `bare`.
    """

    def __init__(self, folder: Path, bare: bool = False) -> None:
        self.share = folder / "share"
        self._folder = folder
        self._name = f"preforkd-{uuid4().hex[:8]}"
        self._groups = [hierarchy / self._name for hierarchy in _hierarchies()]
        self._unshare: subprocess.Popen[bytes] | None = None
        self._init = 0
        for name in ("root", "memory", "share"):
            (folder / name).mkdir()
        self.share.chmod(0o777)
        self._make(folder / "tree")
        if not bare:
            self._install(folder / "tree")

    def _make(self, tree: Path) -> None:
        """What every machine has."""
        (tree / "etc/systemd/system").mkdir(parents=True)
        (tree / "etc/machine-id").write_text(f"{uuid4().hex}\n")
        (tree / "etc/systemd/system/machine.target").write_text(_TARGET)

    def _install(self, tree: Path) -> None:
        """What `pip install` would leave in /opt/preforkd, from this checkout and its environment."""
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        binaries, packages = tree / "opt/preforkd/bin", tree / f"opt/preforkd/lib/{version}/site-packages"
        for directory in (binaries, packages, tree / "etc/sysusers.d"):
            directory.mkdir(parents=True)
        (tree / "opt/preforkd/pyvenv.cfg").write_text("home = /opt/python/bin\n")
        (binaries / "python").symlink_to(f"/opt/python/bin/{version}")
        (packages / "preforkd.pth").write_text("/opt/src\n/opt/packages\n")
        (binaries / "preforkd").write_text(_SCRIPT)
        (binaries / "preforkd").chmod(0o755)
        shutil.copy(ROOT / "etc/preforkd.sysusers.conf", tree / "etc/sysusers.d/preforkd.conf")

    # ---- life -----------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Boot it, and wait until systemd is done with it."""
        packages = next(path for path in sys.path if path.endswith("site-packages"))
        groups = " ".join(map(str, self._groups))
        places = [str(self._folder), self._name, groups, str(ROOT), sys.base_prefix, packages]
        with (self._folder / "console").open("wb") as console:
            self._unshare = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *_UNSHARE, "sh", "-ec", _BOOT, "sh", *places],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )
        eventually(self._is_up, "the machine is up", _TIMEOUT_S)

    def _is_up(self) -> bool:
        assert self._unshare is not None
        assert self._unshare.poll() is None, self.console()
        self._init = _first_child(_first_child(self._unshare.pid))
        return bool(self._init) and self.run("systemctl", "is-active", "machine.target").stdout == "active\n"

    def console(self) -> str:
        """What was written there: the evidence of a boot that failed."""
        return (self._folder / "console").read_text(errors="replace")

    def end(self) -> None:
        """Pull the plug: with the first process of their namespace all others end, and so does `unshare`."""
        if self._unshare is not None:
            nspawn = _first_child(self._unshare.pid)
            os.kill(nspawn or self._unshare.pid, signal.SIGKILL)
            self._unshare.wait(_TIMEOUT_S)
        eventually(self._groups_are_gone, "the machine's control groups are empty", _TIMEOUT_S)

    def _groups_are_gone(self) -> bool:
        for group in self._groups:
            for directory, _, _ in os.walk(group, topdown=False):
                try:
                    Path(directory).rmdir()
                except OSError:
                    return False
        return True

    # ---- work -----------------------------------------------------------------------------------------------------

    def run(self, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command in it, as root, to its end."""
        return self._enter(command, stdin, ENVIRONMENT, _TIMEOUT_S)

    def types(self, line: str, folder: str) -> subprocess.CompletedProcess[str]:
        """Run a line of shell as root would type it in this folder of the machine; it may install packages."""
        index = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        command = ("env", "--chdir", folder, "sh", "-ec", line)
        return self._enter(command, "", {"HOME": "/root", **index}, _INSTALL_TIMEOUT_S)

    def _enter(
        self, command: Sequence[str], stdin: str, environment: Mapping[str, str], timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._inside(*command),
            input=stdin,
            env={**_PATHS, **environment},
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def ok(self, *command: str, stdin: str = "") -> str:
        """Run a command that must succeed; its output."""
        done = self.run(*command, stdin=stdin)
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    @contextmanager
    def reading(self, *command: str) -> Iterator[Iterator[str]]:
        """The lines of a command in it that goes on; afterwards it is interrupted, as by Ctrl-C."""
        words = self._inside("setpriv", "--pdeathsig", "INT", *command)
        with subprocess.Popen(words, env=_PATHS | ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                yield process.stdout
            finally:
                process.kill()

    def _inside(self, *command: str) -> list[str]:
        return ["nsenter", "--target", str(self._init), "--all", "--", *command]

    def path(self, inside: str) -> Path:
        """Where we find a file of it."""
        return Path(f"/proc/{self._init}/root{inside}")

    def write(self, inside: str, text: str) -> None:
        """Write a file in it."""
        self.path(inside).parent.mkdir(parents=True, exist_ok=True)
        self.path(inside).write_text(text)

    def our_pid(self, inside: int) -> int:
        """What we call a process that has this pid inside (NSpid in proc(5))."""
        namespace = _namespace(str(self._init))
        entries = (entry.name for entry in Path("/proc").iterdir() if entry.name.isdecimal())
        return next(int(pid) for pid in entries if _namespace(pid) == namespace and _inner_pid(pid) == inside)


def _first_child(pid: int) -> int:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    return int(children[0]) if children else 0


def _namespace(pid: str) -> str:
    with suppress(OSError):
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    return ""


def _inner_pid(pid: str) -> int:
    """0 for a process that has ended meanwhile."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[-1]) for line in lines if line.startswith("NSpid:"))
    return 0


def _hierarchies() -> list[Path]:
    """Where the kernel keeps systemd's control groups: one place, or two of them on machines in between."""
    root = Path("/sys/fs/cgroup")
    return [path for path in (root / "systemd", root / "unified") if path.exists()] or [root]


@contextmanager
def booted_machine(folder: Path, bare: bool = False) -> Iterator[Machine]:
    """A machine that is gone at the end, whatever happens in between. `bare`: as for Machine."""
    require_machine()
    machine = Machine(folder, bare)
    try:
        machine.boot()
        if bare:
            machine.ok("sh", "-c", _FORGET)
        yield machine
    finally:
        machine.end()
