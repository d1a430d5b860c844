"""A pool as the master has it, without processes: empty child specs, slot files, the link socket."""

from __future__ import annotations

from pathlib import Path

from supervisor.config.schema import BrokerConfig, Config, DaemonConfig, LedgerConfig, LogConfig, PoolConfig
from supervisor.master.pool.children import Children
from supervisor.master.pool.pool import Pool


def make_pool(folder: Path, name: str = "email", workers: int = 2) -> Pool:
    """The only pool of a configuration; to be closed. `folder`: its state and its runtime directory."""
    settings = PoolConfig(name=name, queue=name, handler="m:f", workers=workers)
    daemon = DaemonConfig(state_dir=str(folder), runtime_dir=str(folder))
    config = Config("", daemon, LogConfig(), BrokerConfig(), LedgerConfig(), {name: settings})
    return Pool(config, settings, Children(), 0)
