"""The pools of the daemon by name, and the configuration in force. Master only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from supervisor.config.schema import Config, PoolConfig
from supervisor.master.pool.children import Children
from supervisor.master.pool.pool import Pool
from supervisor.master.pool.reports import hear_readiness
from supervisor.system.reactor import Reactor


class Pools(Mapping[str, Pool]):
    """All pools, also those that a reload adds or removes. `config`: the configuration in force.

    `youngest`: the youngest generation of a pool by its name, as the exit history knows it.
    """

    def __init__(self, config: Config, children: Children, youngest: Callable[[str], int], reactor: Reactor) -> None:
        """Raises StateError when a directory, slot or socket of a pool cannot be used."""
        self.config = config
        self._children = children
        self._youngest = youngest
        self._reactor = reactor
        self._by_name: dict[str, Pool] = {}
        for settings in config.pools.values():
            self.add(config, settings)

    def __getitem__(self, name: str) -> Pool:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def add(self, config: Config, settings: PoolConfig) -> Pool:
        """Make a pool and listen to its workers. Raises StateError like the constructor."""
        pool = Pool(config, settings, self._children, self._youngest(settings.name))
        self._by_name[pool.name] = pool
        self._reactor.add_handler(
            pool.endpoints.readiness_read, lambda fd, events: hear_readiness(pool), self._reactor.READ
        )
        return pool

    def remove(self, pool: Pool) -> None:
        """Close a pool whose children have ended, and forget it."""
        self._reactor.remove_handler(pool.endpoints.readiness_read)
        pool.close()
        del self._by_name[pool.name]

    def put_in_force(self, config: Config) -> None:
        """Take this as the configuration in force."""
        self.config = config

    def close(self) -> None:
        """Remove all pools."""
        for pool in list(self._by_name.values()):
            self.remove(pool)
