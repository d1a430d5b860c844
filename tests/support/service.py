"""preforkd as the service of a machine (`machine.py`), on a real RabbitMQ: as `RabbitDaemon`, but systemd's.

Configured as operators are told to: the printed unit, drop-ins, the broker's URL as a credential.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from tests.support.machine import ENVIRONMENT, PROGRAM, Machine
from tests.support.rabbit_daemon import RabbitDaemon
from tests.support.rabbitmq import RabbitNode
from tests.support.source_tree import ROOT

UNIT = "preforkd.service"
_UNIT_PATH = f"/etc/systemd/system/{UNIT}"


class Service(RabbitDaemon):
    """The service on `machine`. `pool`: lines of `[pools.email]`; `unit`: lines of a drop-in's `[Service]`."""

    def __init__(self, machine: Machine, node: RabbitNode, pool: str, unit: str = "") -> None:
        self.machine = machine
        name = uuid4().hex[:8]
        (machine.share / name).mkdir()
        super().__init__(machine.share / name, node, pool)
        self.marks.chmod(0o777)
        self.state_dir, self.runtime_dir = machine.path("/var/lib/preforkd"), machine.path("/run/preforkd")
        machine.ok("sh", "-c", f"{PROGRAM} service > {_UNIT_PATH}")
        machine.write(
            f"{_UNIT_PATH}.d/credentials.conf", (ROOT / "etc/preforkd.service.d/credentials.conf").read_text()
        )
        lines = [f"Environment={name}={value}" for name, value in ENVIRONMENT.items()]
        drop_in = "\n".join(["[Service]", "ReadWritePaths=/share", "RestartSec=100ms", *lines, unit])
        machine.write(f"{_UNIT_PATH}.d/test.conf", drop_in)
        machine.ok("systemctl", "daemon-reload")

    def configure(self, settings: str, daemon: str = "") -> None:
        """Write configuration and credential; they count from the next start or reload on."""
        self.machine.write("/etc/preforkd/broker-url", self.node.url)
        self.machine.path("/etc/preforkd/broker-url").chmod(0o600)
        self.machine.write(
            "/etc/preforkd/preforkd.toml",
            f'[daemon]\n{daemon}\n[broker]\nurl_file = "${{CREDENTIALS_DIRECTORY:-/etc/preforkd}}/broker-url"\n'
            f'[pools.email]\nqueue = "{self.queue}"\nhandler = "tests.support.job_handlers:run"\npath = ["/opt/src"]\n'
            f'{settings}\n[pools.email.environment]\nMARKS = "/share/{self.directory.name}/marks"\n',
        )

    # ---- life -----------------------------------------------------------------------------------------------------

    def begin(self, verb: str) -> None:
        """`systemctl start` or `stop`, without waiting for it."""
        self.machine.ok("systemctl", verb, "--no-block", UNIT)

    def systemctl(self, verb: str, *options: str) -> subprocess.CompletedProcess[str]:
        """`systemctl VERB`, to its end."""
        return self.machine.run("systemctl", verb, *options, UNIT)

    def clean_up(self) -> None:
        """Stop it, and forget all it knew; what it has logged stays."""
        self.systemctl("kill", "--signal=KILL")
        self.systemctl("stop")
        self.systemctl("reset-failed")
        self.machine.ok("sh", "-c", f"rm -rf /var/lib/preforkd {_UNIT_PATH}.d")

    # ---- what can be seen -----------------------------------------------------------------------------------------

    def show(self, name: str) -> str:
        """One property of the unit."""
        return self.machine.ok("systemctl", "show", "--value", "--property", name, UNIT).strip()

    def is_now(self, state: str) -> bool:
        """Whether this is the unit's state: `activating`, `active`, `reloading`, `deactivating`, `failed` …"""
        return self.show("ActiveState") == state

    def main_pid(self) -> int:
        """The master, as the machine knows it."""
        return int(self.show("MainPID"))

    def journal(self, *matches: str) -> list[dict[str, Any]]:
        """The entries of the unit since it was last started, that match."""
        invocation = f"_SYSTEMD_INVOCATION_ID={self.show('InvocationID')}"
        lines = self.machine.ok("journalctl", "--output=json", "--no-pager", invocation, *matches).splitlines()
        return [json.loads(line) for line in lines]


@contextmanager
def service(machine: Machine, node: RabbitNode, pool: str = "workers = 1", unit: str = "") -> Iterator[Service]:
    """The service, not started yet; afterwards it is stopped, and its evidence printed if the test has failed."""
    under_test = Service(machine, node, pool, unit)
    try:
        yield under_test
    except BaseException:
        print(machine.run("systemctl", "status", "--no-pager", "--full", UNIT).stdout)  # noqa: T201
        print(machine.run("journalctl", "--no-pager", "--lines=80").stdout)  # noqa: T201
        raise
    finally:
        under_test.clean_up()
        under_test.forget_queues()


def exposure(machine: Machine) -> tuple[float, str]:
    """How open systemd finds the unit, from 0 to 10, and what it says about each setting."""
    text = machine.ok("systemd-analyze", "security", "--no-pager", UNIT)
    line = next(line for line in text.splitlines() if "Overall exposure level" in line)
    return float(line.partition(": ")[2].split()[0]), text
