"""The moment at which a pool goes over to new settings: its forkserver, its workers to be, its consumer. Master only.

The new forkserver takes the old one's place and the replacement of workers begins. The consumer hears of its settings
and goes on; where its connection must be made anew, it finishes what runs, acks it over the old one, and is replaced.
"""

from __future__ import annotations

from supervisor.config.schema import Config
from supervisor.link.frames import Drain, Reconfigure
from supervisor.master.pool.pool import Pool
from supervisor.master.reload.rolling import stays
from supervisor.master.stop.terminations import Terminations


def take_over(pool: Pool, config: Config, reconnect: bool, terminations: Terminations, now_s: float) -> None:
    """Put the candidate in charge, and these settings in force."""
    candidate, former, probe = pool.candidate, pool.forkserver, pool.probe
    assert candidate is not None and candidate.child is not None and probe is not None  # its trial was passed
    pool.capacity = sum(spec.ready and stays(spec) for spec in pool.workers if spec.slot != probe)
    # fail-point: master.reload-committing: the new code has proved itself, the old one is in charge
    pool.whole_config, pool.config = config, config.pools[pool.name]
    candidate.succeed(former)
    pool.forkserver, pool.candidate, pool.probe = candidate, None, None
    pool.outdated_below, pool.spares, pool.rolling = candidate.child.generation, frozenset({probe}), True
    if former.child is not None:
        terminations.ask(pool, former.child, "reload", now_s)
    for spec in [*pool.workers, pool.consumer]:
        spec.forgive()
    if reconnect:
        pool.consumer_channel.send(Drain())
        pool.handover_due_s = now_s + config.daemon.stop_timeout_s
    else:
        pool.consumer_channel.send(Reconfigure(pool.config, config.log))
    # fail-point: master.reload-committed: the new code is in charge, nobody was replaced


def proceed(pool: Pool, terminations: Terminations, now_s: float) -> None:
    """Let a consumer go that has finished, or has had the time for it."""
    child = pool.consumer.child
    if pool.handover_due_s is None or (
        pool.consumer_channel.drained is None and now_s < pool.handover_due_s and child is not None
    ):
        return
    pool.handover_due_s = None
    if child is not None:
        terminations.ask(pool, child, "reload", now_s)
