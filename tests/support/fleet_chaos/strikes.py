"""How each fault is done to a rig. A strike returns what ends it, where it lasts."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import ExitStack, suppress

import psycopg

from tests.support.daemon import send_signal
from tests.support.fleet_chaos.plan import Fault, Strike
from tests.support.fleet_chaos.rig import Member, Rig

Undo = Callable[[], None]
Act = Callable[[Rig, Member, Strike], Undo | None]

_NETWORK_DELAY_S = 0.02


# ---- processes ------------------------------------------------------------------------------------------------------


def _kill(title: str) -> Act:
    def act(rig: Rig, member: Member, strike: Strike) -> None:
        send_signal(member.titled(title.format(slot=strike.slot)), signal.SIGKILL)

    return act


def _stop(title: str) -> Act:
    def act(rig: Rig, member: Member, strike: Strike) -> Undo:
        pids = member.titled(title.format(slot=strike.slot))
        send_signal(pids, signal.SIGSTOP)
        return lambda: send_signal(pids, signal.SIGCONT)

    return act


def _kill_master(rig: Rig, member: Member, strike: Strike) -> None:
    member.kill()
    member.restart()


def _kill_host(rig: Rig, member: Member, strike: Strike) -> None:
    member.kill_all()
    member.restart()


def _lose_host(rig: Rig, member: Member, strike: Strike) -> Undo:
    """It may come back while another fault keeps it from being ready."""
    member.kill_all()
    return lambda: member.start(ready=False)


# ---- networks -------------------------------------------------------------------------------------------------------


def _close_connections(rig: Rig, member: Member, strike: Strike) -> None:
    rig.node.close_all_connections()


def _broker_slow(rig: Rig, member: Member, strike: Strike) -> Undo:
    member.ways.broker.delay_s = _NETWORK_DELAY_S
    return lambda: setattr(member.ways.broker, "delay_s", 0.0)


def _store_slow(rig: Rig, member: Member, strike: Strike) -> Undo:
    member.ways.store.delay_s = _NETWORK_DELAY_S
    return lambda: setattr(member.ways.store, "delay_s", 0.0)


def _store_refuses(rig: Rig, member: Member, strike: Strike) -> Undo:
    member.ways.store.refuse()
    return member.ways.store.admit


def _cut_host(rig: Rig, member: Member, strike: Strike) -> Undo:
    member.host.cut()
    return member.host.mend


# ---- broker and store -----------------------------------------------------------------------------------------------


def _kill_broker(rig: Rig, member: Member, strike: Strike) -> None:
    rig.node.restart()


def _kill_backends(rig: Rig, member: Member, strike: Strike) -> None:
    sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> "
    with suppress(psycopg.Error):
        rig.server.ask(rig.database, f"{sql} pg_backend_pid()")


def _kill_store(rig: Rig, member: Member, strike: Strike) -> None:
    rig.server.end(signal.SIGKILL)
    rig.server.start()


def _stop_store(rig: Rig, member: Member, strike: Strike) -> Undo:
    rig.server.stop_signal()
    return rig.server.cont


def _full_store(rig: Rig, member: Member, strike: Strike) -> Undo:
    """All connections that the server takes are others'; those that are lost meanwhile do not come back."""
    taken = ExitStack()
    with suppress(psycopg.Error):
        while True:
            taken.enter_context(psycopg.connect(rig.server.dsn("postgres"), connect_timeout=5))
    for each in rig.members:
        each.ways.store.reset()
    return taken.close


STRIKES: dict[Fault, Act] = {
    Fault.KILL_WORKER: _kill("worker email/{slot}"),
    Fault.KILL_CONSUMER: _kill("consumer email"),
    Fault.KILL_FORKSERVER: _kill("forkserver email"),
    Fault.KILL_MASTER: _kill_master,
    Fault.KILL_HOST: _kill_host,
    Fault.LOSE_HOST: _lose_host,
    Fault.STOP_WORKER: _stop("worker email/{slot}"),
    Fault.STOP_CONSUMER: _stop("consumer email"),
    Fault.STOP_MASTER: _stop("master"),
    Fault.STOP_HOST: _stop(".*"),
    Fault.STOP_HOST_LONG: _stop(".*"),
    Fault.STOP_CONSUMER_LONG: _stop("consumer email"),
    Fault.CLOSE_CONNECTIONS: _close_connections,
    Fault.BROKER_RESET: lambda rig, member, strike: member.ways.broker.reset(),
    Fault.BROKER_SILENT: lambda rig, member, strike: member.ways.broker.silence(),
    Fault.BROKER_ONE_WAY: lambda rig, member, strike: member.ways.broker.lose_answers(),
    Fault.BROKER_SLOW: _broker_slow,
    Fault.STORE_RESET: lambda rig, member, strike: member.ways.store.reset(),
    Fault.STORE_SILENT: lambda rig, member, strike: member.ways.store.silence(),
    Fault.STORE_ONE_WAY: lambda rig, member, strike: member.ways.store.lose_answers(),
    Fault.STORE_SLOW: _store_slow,
    Fault.STORE_REFUSES: _store_refuses,
    Fault.STORE_REFUSES_LONG: _store_refuses,
    Fault.CUT_HOST: _cut_host,
    Fault.CUT_HOST_LONG: _cut_host,
    Fault.KILL_BROKER: _kill_broker,
    Fault.KILL_BACKENDS: _kill_backends,
    Fault.KILL_STORE: _kill_store,
    Fault.STOP_STORE: _stop_store,
    Fault.STOP_STORE_LONG: _stop_store,
    Fault.FULL_STORE: _full_store,
}

ALONE = frozenset(
    {Fault.KILL_MASTER, Fault.KILL_HOST, Fault.LOSE_HOST, Fault.KILL_BROKER, Fault.KILL_STORE, Fault.FULL_STORE}
    | {Fault.STOP_STORE, Fault.STOP_STORE_LONG}
)
"""Before these all that lasts is ended: they wait for something that it could keep from coming."""
