"""A daemon whose volume moves: the state directory is detached from one host and attached to another, at the same path.

Each host is in a network of its own (`hosts.py`). `exclusive = true`, as docs/how-to/partitions.md has it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from tests.support.crash_site import CrashSite
from tests.support.daemon import cleaned_up
from tests.support.hosts import Host
from tests.support.rabbitmq import RabbitNode
from tests.support.waiting import eventually


class MovingSite(CrashSite):
    """The queue's daemon, on the first of `hosts` at the beginning. `boots`: each move is to another boot."""

    def __init__(self, directory: Path, node: RabbitNode, hosts: Sequence[Host], boots: bool = False) -> None:
        self.hosts = hosts
        self._at = 0
        self._boots = boots
        self.volume, self.disk = directory / "volume", directory / "disk"
        for folder in (self.volume / "state", self.disk):
            folder.mkdir(parents=True)
        self.volume.chmod(0o755)
        (self.volume / "state").chmod(0o700)
        (directory / "state").symlink_to(self.volume / "state")  # how the test sees it
        super().__init__(directory, f"moved-{uuid4().hex[:8]}", node.url)
        for host in hosts:
            host.boots("")
        self.host.mount(self.volume, self.disk)

    @property
    def host(self) -> Host:
        """Where the volume is."""
        return self.hosts[self._at]

    def configure(self, settings: str, daemon: str = "") -> None:
        """Write the configuration of the daemon of this host."""
        self._settings = settings, daemon
        super().configure(f"exclusive = true\n{settings}", daemon)
        text = self.config_path.read_text()
        text = text.replace(f'"{self.state_dir}"', f'"{self.disk}/state"')
        text = text.replace(self._broker.urls[0], f"amqp://guest:guest@{self.host.gateway}:5672/%2F")
        self.config_path.write_text(text)
        self.enter = self.host.prefix

    def kill_all(self) -> None:
        """Kill -9 of everything at once: the host has lost its power."""
        self.kill()
        while left := self.processes():
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def move(self) -> None:
        """Detach the volume, and attach it to the other host; the daemon is not started."""
        eventually(lambda: not self.processes(), "nothing of the daemon is left")
        self.host.unmount(self.disk)
        self._at = (self._at + 1) % len(self.hosts)
        self.runtime_dir = self.directory / f"run{self._at}"
        if self._boots:
            self.host.boots(str(uuid4()))
        self.host.mount(self.volume, self.disk)
        self.configure(*self._settings)

    def settle(self) -> None:
        """As ever; where the master has died, its successor runs on the other host."""
        if not self.running:
            self.move()
        super().settle()


@contextmanager
def moving_site(directory: Path, node: RabbitNode, hosts: Sequence[Host], boots: bool = False) -> Iterator[MovingSite]:
    """A site with a running daemon; nothing of it runs afterwards. Parameters: as for MovingSite."""
    site = MovingSite(directory, node, hosts, boots)
    try:
        with cleaned_up(site, start=True):
            yield site
    finally:
        site.forget_queues()
