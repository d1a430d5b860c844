"""What `preforkd check` says about a queue that belongs to one daemon of several, and may be shared by mistake.

The file tells: the same file serves all daemons, and a variable in the queue's name divides the queue among them. A
variable for an environment ("orders.${STAGE}") divides nothing: the value of one that does is a number, ends in one as
the name of a StatefulSet's pod, or is the name of this host. A queue whose name is plain ("orders.2") is not told.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from supervisor.config.load import queues_as_written
from supervisor.config.schema import Config
from supervisor.config.variables import values_in
from supervisor.errors import ConfigError

_NUMBERED = re.compile(r"(.*[-_.])?\d+", re.DOTALL)


def about_partitions(config: Config) -> Iterator[tuple[str, str]]:
    """Pairs of a key's path and a warning; none where the configuration cannot be read again."""
    with suppress(ConfigError):
        yield from shared_partitions(config, queues_as_written(Path(config.source)), socket.gethostname())


def shared_partitions(config: Config, queues: Mapping[str, str], host_name: str) -> Iterator[tuple[str, str]]:
    """As `about_partitions`. `queues`: of each pool, with its variables; `host_name`: that of this host. Pure."""
    if config.broker.embedded or config.fleet is not None:
        return
    for pool in config.pools.values():
        template = queues.get(pool.name, "")
        values = [] if pool.exclusive else values_in(template, pool.queue)
        if any(value == host_name or _NUMBERED.fullmatch(value) for value in values):
            yield (
                f"pools.{pool.name}.queue",
                f"{template!r} is a queue of one daemon for each value, {pool.queue!r} here, and nothing keeps a "
                "second daemon from it while the first one lives (a pod that is moved, a copied unit): both would run "
                "its messages, each with a ledger of its own. Set exclusive = true, and move state_dir with the queue",
            )
