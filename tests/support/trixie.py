"""RabbitMQ 4.0 beside the machine's own server: Debian 13's package in a directory tree made by debootstrap.

Made once and kept in the user's cache; `RabbitNode(root=...)` runs it. Nothing outside that folder is touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

_BUILD_TIMEOUT_S = 900


class Unavailable(Exception):
    """There is no RabbitMQ 4.0 here; the text says what is missing."""


def rabbitmq_4_root() -> Path:
    """The tree, built when it is not there yet (about two minutes). Raises Unavailable."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "preforkd-tests"
    root = cache / "rabbitmq-4.0"
    if os.geteuid() != 0:
        raise Unavailable("RabbitMQ 4.0 runs in a chroot here: that needs root")
    if root.exists():
        return root
    if shutil.which("debootstrap") is None:
        raise Unavailable("RabbitMQ 4.0 is taken from Debian 13: apt-get install debootstrap, and try again")
    unfinished = cache / "rabbitmq-4.0.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    cache.mkdir(parents=True, exist_ok=True)
    command = ["debootstrap", "--variant=minbase", "--include=rabbitmq-server", "trixie", str(unfinished)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_TIMEOUT_S)
    if built.returncode != 0:
        raise Unavailable(f"debootstrap failed: {' / '.join(built.stdout.splitlines()[-3:])}")
    unfinished.rename(root)
    return root
