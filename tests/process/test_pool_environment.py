"""What `[pools.NAME.environment]` says is there when a pool's interpreter starts, not only at the import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.cli.handler_probe import probe_handler
from supervisor.config.schema import PoolConfig

AT_START = {
    "PYTHONHASHSEED": ("7", "import sys; assert sys.flags.hash_randomization == 1 and hash('preforkd') == {seeded}"),
    "PYTHONPATH": ("/nowhere/at/all", "import sys; assert '/nowhere/at/all' in sys.path"),
    "PYTHONDEVMODE": ("1", "import sys; assert sys.flags.dev_mode"),
    "TZ": ("Etc/GMT-9", "import time; assert time.localtime(0).tm_hour == 9"),
}
"""The value, and a module that fails where it did not count."""


@pytest.mark.parametrize("name", sorted(AT_START))
def test_a_variable_of_a_pool_counts_as_if_exported(tmp_path: Path, name: str) -> None:
    value, source = AT_START[name]
    (tmp_path / "told.py").write_text(f"{source.format(seeded=seeded())}\ndef run(message): pass\n")
    pool = PoolConfig("mail", "mail", "told:run", path=(str(tmp_path),), environment={name: value})
    assert probe_handler(pool).import_s > 0


def seeded() -> int:
    """What an interpreter with this seed says."""
    environment = {"PYTHONHASHSEED": AT_START["PYTHONHASHSEED"][0]}
    done = subprocess.run(
        [sys.executable, "-c", "print(hash('preforkd'))"], env=environment, capture_output=True, check=True
    )
    return int(done.stdout)
