"""Arguments that name a pool: its own name or that of its queue, alike in every command. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from supervisor.errors import PreforkdError


class Ambiguous(PreforkdError):
    """A name that means two pools."""

    exit_code = 2


def pool_of(name: str, queues: Mapping[str, str]) -> str | None:
    """The pool with this name or queue; None if there is none. `queues`: the queue of each pool.

    Raises Ambiguous if one pool has the name, and another one a queue of this name.
    """
    found = sorted(pool for pool, queue in queues.items() if name in (pool, queue))
    if len(found) > 1:
        advice = ", ".join(f"for pool {pool} {_other_name(name, pool, queues)}" for pool in found)
        meant = " and ".join(f"pool {pool} (queue {queues[pool]})" for pool in found)
        raise Ambiguous(f"{name!r} means {meant}: {advice}")
    return found[0] if found else None


def _other_name(name: str, pool: str, queues: Mapping[str, str]) -> str:
    """What to say instead of `name`: the other name of the pool, if that means no second pool."""
    other = queues[pool] if name == pool else pool
    meant = [each for each, queue in queues.items() if other in (each, queue)]
    return f"say {other}" if meant == [pool] else "give it another name in the configuration"
