"""Hosts for tests: namespaces, each with a name, a cable that can be cut and a boot of its own. Root only.

A host is a process that sleeps in namespaces of its own, and ends with the test run. Its cable is a veth pair: it ends
with the host's network, so nothing is left even after a kill -9 of the test run. A host sees this machine's processes,
clocks and files; it may be given another boot id, and mounts volumes.
"""

from __future__ import annotations

import ipaddress
import os
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.source_tree import ROOT
from tests.support.tools import cannot
from tests.support.waiting import eventually

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_CABLES = list(ipaddress.ip_network("10.213.0.0/16").subnets(new_prefix=30))


class Host:
    """One host. `folder`: for what its kernel is made to say; `name`: its host name. `gateway`: this machine's address
    as the host sees it."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self.name = name
        self._name = f"pfk{uuid4().hex[:10]}"
        begin = ["sh", "-c", 'hostname "$0" && exec sleep infinity', name]
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--uts", *begin], cwd=ROOT
        )
        pid = self._process.pid
        try:
            eventually(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n", "the host has its namespaces")
            self.gateway = self._plug_in(pid)
        except BaseException:
            self.end()
            raise

    def _plug_in(self, pid: int) -> str:
        used = _run("ip", "-oneline", "-family", "inet", "address")
        first = (os.getpid() * 8) % len(_CABLES)
        net = next(net for net in (*_CABLES[first:], *_CABLES[:first]) if f" {net[1]}/" not in used)
        _run("ip", "link", "add", self._name, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        _run("ip", "address", "add", f"{net[1]}/30", "dev", self._name)
        self.mend()
        self.ok("sh", "-ec", f"ip address add {net[2]}/30 dev eth0; ip link set eth0 up; ip link set lo up")
        return str(net[1])

    def end(self) -> None:
        """Its cable and its mounts are gone with it, once no process is left in it."""
        self._process.kill()
        self._process.wait()

    # ---- work -----------------------------------------------------------------------------------------------------

    @property
    def prefix(self) -> str:
        """Shell code after which a command runs on this host, and has the pid of the shell."""
        return f"exec {shlex.join(self.enter())} "

    def ok(self, *command: str) -> str:
        """Run a command on it that must succeed; its output."""
        return _run(*self.enter(), *command)

    def enter(self) -> list[str]:
        """The words before a command that is to run on this host."""
        spaces = ["--net", "--mount", "--uts"]
        return ["nsenter", "--target", str(self._process.pid), *spaces, "env", f"--chdir={ROOT}"]

    def boots(self, name: str) -> None:
        """From now on it is in the boot of this name; "": in this machine's own."""
        path = self._folder / self._name
        path.write_text(f"{name}\n")
        self.ok("sh", "-c", f"while umount {_BOOT_ID} 2>/dev/null; do :; done")
        if name:
            self.ok("mount", "--bind", str(path), _BOOT_ID)

    def mount(self, volume: Path, place: Path) -> None:
        """Attach a volume (a folder of this machine)."""
        self.ok("mount", "--bind", str(volume), str(place))

    def unmount(self, place: Path) -> None:
        """Detach a volume, once no process uses it: one that was killed may still be closing its files."""
        words = [*self.enter(), "umount", str(place)]
        eventually(lambda: subprocess.run(words, check=False, stderr=subprocess.DEVNULL).returncode == 0, "it is free")

    # ---- its network ------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Nothing arrives any more, and neither end is told."""
        _run("ip", "link", "set", self._name, "down")

    def mend(self) -> None:
        """The end of `cut`."""
        _run("ip", "link", "set", self._name, "up")


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{shlex.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def running_hosts(folder: Path, number: int = 2) -> Iterator[list[Host]]:
    """So many hosts, which are gone at the end, whatever happens in between."""
    if os.geteuid() != 0:
        pytest.skip("needs root to make network namespaces")
    probe = ["unshare", "--net", "--mount", "ip", "link", "add", "probe", "type", "veth"]
    if subprocess.run(probe, check=False, capture_output=True).returncode:
        cannot("no hosts can be made here: that takes iproute2, and the right to make namespaces")
    with ExitStack() as stack:
        hosts = []
        for at in range(number):
            hosts.append(Host(folder, f"host{at}"))
            stack.callback(hosts[-1].end)
        yield hosts


def listeners(hosts: list[Host]) -> str:
    """Lines of rabbitmq.conf: a node listens where these hosts find it, at AMQP's own port."""
    return "\n".join(f"listeners.tcp.{at} = {host.gateway}:5672" for at, host in enumerate(hosts, start=2))
