"""Builds images and runs containers with the kernel alone: overlay mounts and namespaces. Root only.

For machines without a container runtime: each step of a Containerfile is done in a Debian tree in place of its base
image, and the result runs as a runtime runs it (pid, mount, IPC and host name namespaces, a read-only root, no
capabilities). What a runtime adds beyond that (seccomp, a network of its own) is not tested here.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.containerfile import Copy, Make, Run, Stage
from tests.support.waiting import eventually

_STEP_TIMEOUT_S = 300
_TIMEOUT_S = 60.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT = "--preserve=mode,timestamps,links"
_INDEX = re.compile(r"file://(/[^\s'\",]+)/")
"""The folder of an index that is on this machine: the files that its pages link are beside them."""

_NAMED = re.compile(r"(?<![:/\w])(/[^\s'\",]+)")


@dataclass(frozen=True)
class Image:
    """What a build has left. `layers`: folders of an overlay, the newest first."""

    layers: tuple[Path, ...]
    stage: Stage


def build(stages: Sequence[Stage], bases: Mapping[str, Image], context: Path, work: Path) -> Image:
    """The image of the last stage. `bases`: images by the names in FROM; `work`: a folder for the layers.

    Raises AssertionError with the output of a step that fails.
    """
    images: dict[str, Image] = {}
    for number, stage in enumerate(stages):
        lower = (images.get(stage.base) or bases[stage.base]).layers
        layer = _Layer(lower, work / f"{stage.name or 'image'}-{number}")
        for step in stage.steps:
            layer.do(step, images, context)
        images[stage.name] = image = Image((layer.upper, *lower), stage)
    return image


class _Layer:
    """One layer that is being made."""

    def __init__(self, lower: tuple[Path, ...], folder: Path) -> None:
        self.upper, self._work, self._root = (folder / name for name in ("upper", "work", "root"))
        self._lower = lower
        for each in (self.upper, self._work, self._root):
            each.mkdir(parents=True)

    def do(self, step: Copy | Run | Make, images: Mapping[str, Image], context: Path) -> None:
        """Carry out one step."""
        match step:
            case Make(folder):
                self._sh(f"mkdir -p {self._root}{folder}")
            case Copy():
                self._copy(step, images, context)
            case Run():
                self._run(step)

    def _copy(self, step: Copy, images: Mapping[str, Image], context: Path) -> None:
        origin, script = context, ""
        if step.stage:
            origin = self._root.with_name("from")
            origin.mkdir(exist_ok=True)
            script = f"mount -t overlay overlay -o lowerdir={':'.join(map(str, images[step.stage].layers))} {origin}; "
        target = f"{self._root}{step.target}"
        for source in step.sources:
            found = f"{origin}/{source.lstrip('/')}"
            script += (
                f"if [ -d {found} ]; then mkdir -p {target}; cp -R {_KEPT} {found}/. {target}; "
                f"else mkdir -p $(dirname {target}x); cp {_KEPT} {found} {target}; fi; "
            )
        self._sh(f"{script} chown -R {step.owner} {target}")

    def _run(self, step: Run) -> None:
        variables = {"PATH": _PATH, "HOME": "/root", **_pip_variables(), **step.environment}
        words = [f"{name}={value}" for name, value in variables.items()]
        inside = shlex.join(["env", "-i", *words, "/bin/sh", "-c", f"cd {step.folder} && {step.command}"])
        mounts = "".join(
            f"mkdir -p {self._root}{path.parent}; test -e {self._root}{path} || "
            f"{'mkdir -p' if path.is_dir() else 'touch'} {self._root}{path}; mount --bind {path} {self._root}{path}; "
            for path in _of_this_machine()
        )
        proc = f"mount -t proc proc {self._root}/proc; mount --rbind /dev {self._root}/dev; "
        self._sh(f"{proc}{mounts} chroot --userspec={step.user} {self._root} {inside}")

    def _sh(self, script: str) -> None:
        options = f"lowerdir={':'.join(map(str, self._lower))},upperdir={self.upper},workdir={self._work}"
        whole = f"set -e; mount -t overlay overlay -o {options} {self._root}; {script}"
        done = subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "sh", "-c", whole],
            capture_output=True,
            text=True,
            timeout=_STEP_TIMEOUT_S,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"


def _pip_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_")}


def _of_this_machine() -> list[Path]:
    """What a step needs to reach the package registry as this machine does: names, certificates, pip's settings."""
    told = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    named = [Path(path) for path in (*_INDEX.findall(told.stdout), *_NAMED.findall(told.stdout))]
    home = Path.home()
    own = [Path("/etc/pip.conf"), home / ".config/pip/pip.conf", home / ".pip/pip.conf"]
    return [
        path for path in dict.fromkeys([Path("/etc/resolv.conf"), Path("/etc/hosts"), *own, *named]) if path.exists()
    ]


@dataclass
class Container:
    """One container of an image.

    `volumes`: folders of this machine by their place inside; `read_only`: of these; `temporary`: tmpfs mounts with
    their options; `without`: paths that the root file system lacks; `mapped`: in a user namespace of its own.
    """

    image: Image
    folder: Path
    volumes: dict[str, Path] = field(default_factory=dict)
    read_only: tuple[str, ...] = ()
    temporary: dict[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    mapped: bool = False
    process: subprocess.Popen[bytes] | None = None

    def start(self, *command: str) -> None:
        """Start it; `command` in place of the image's."""
        stage = self.image.stage
        words = [*stage.entrypoint, *(command or stage.command)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*_NAMESPACES, "sh", "-c", self._script(words)], stdout=log, stderr=log, start_new_session=True
            )

    @property
    def log(self) -> Path:
        """What it has printed."""
        return self.folder / "log"

    @property
    def init(self) -> int:
        """The pid, out here, of its first process, once that is the image's program."""
        assert self.process is not None

        def found() -> int:
            assert self.process is not None
            assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.log.read_text()}"
            children = self._children()
            program = Path(f"/proc/{children[0]}/comm").read_text().strip() if children else "sh"
            return children[0] if program not in _BEFORE else 0

        return eventually(found, "its first process runs", _TIMEOUT_S)

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a program inside, as the image's user and with its variables, as `kubectl exec` does. It stays out of a
        user namespace, where it has the same uid."""
        uid, gid = self.image.stage.user.split(":")
        enter = ["nsenter", f"--target={self.init}", "--mount", "--pid", "--ipc", "--net"]
        return subprocess.run(
            [*enter, f"--setuid={uid}", f"--setgid={gid}", "env", "-i", *self._variables(), *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
        )

    def stop(self, number: int) -> int:
        """Send a signal to its first process and wait for the container's end; its status."""
        os.kill(self.init, number)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end; its status."""
        assert self.process is not None
        return self.process.wait(_TIMEOUT_S)

    def end(self) -> None:
        """Kill it. The end of a first process takes all others of its namespace, and waits for them."""
        if self.process is not None and self.process.poll() is None:
            for pid in self._children() or [self.process.pid]:
                os.kill(pid, signal.SIGKILL)
            self.process.wait()

    def _children(self) -> list[int]:
        assert self.process is not None
        told = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in told.split()]

    def _variables(self) -> list[str]:
        return [f"{name}={value}" for name, value in {**self.image.stage.environment, **self.environment}.items()]

    def _script(self, words: Sequence[str]) -> str:
        uid, gid = self.image.stage.user.split(":")
        places = {name: self.folder / name for name in ("upper", "work", "root")}
        for place in places.values():
            place.mkdir(parents=True, exist_ok=True)
        root = places["root"]
        layers = ":".join(map(str, self.image.layers))
        steps = [
            "set -e",
            f"mount -t overlay overlay -o lowerdir={layers},upperdir={places['upper']},workdir={places['work']} {root}",
            *(f"rm -rf {root}{path}" for path in self.without),
            *(f"mkdir -p {root}{path}" for path in (*self.temporary, *self.volumes)),
            f"mount -o remount,ro {root}",
            *(f"mount -t tmpfs -o {options} none {root}{path}" for path, options in self.temporary.items()),
            *(f"mount --bind {source} {root}{path}" for path, source in self.volumes.items()),
            *(f"mount -o remount,bind,ro {root}{path}" for path in self.read_only),
            f"mount -t proc proc {root}/proc",
            f"mount --rbind /dev {root}/dev",
            f"mount -t sysfs -o ro sysfs {root}/sys",
            f"mount -t cgroup2 cgroup2 {root}/sys/fs/cgroup || true",  # where the kernel gives one
            f"{sys.executable} -c {shlex.quote(_LOOPBACK_UP)}",
            f"cd {root}",
            "pivot_root . .",  # pivot_root(2): the old root is on top of the new one, and taken away
            "umount -l .",
            "cd /",
            f"exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all "
            f"--reuid={uid} --regid={gid} --groups={gid} "
            + shlex.join([*(_MAPPED if self.mapped else ()), "env", "-i", *self._variables(), *words]),
        ]
        return "; ".join(steps)


_NAMESPACES = ["unshare", "--mount", "--pid", "--ipc", "--uts", "--net", "--cgroup", "--fork"]
_LOOPBACK_UP = "import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh', b'lo', 1))"
"""SIOCSIFFLAGS with IFF_UP (netdevice(7))."""

_MAPPED = ["unshare", "--user", "--map-user=10001", "--map-group=10001"]
_BEFORE = ("sh", "mount", "setpriv", "unshare", "env", "mkdir", "rm")
"""Names of its first process before it is the image's program."""
