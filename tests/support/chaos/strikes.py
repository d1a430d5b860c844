"""How each fault is done to a rig. A strike returns what ends it, where it lasts."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress

from tests.support.chaos.plan import Fault, Strike
from tests.support.chaos.rig import Rig
from tests.support.daemon import send_signal
from tests.support.proxy import BASIC_ACK
from tests.support.waiting import eventually

Undo = Callable[[], None]
Act = Callable[[Rig, Strike], Undo | None]

_NETWORK_DELAY_S = 0.02
_ACK_TIMEOUT_MS, _USUAL_ACK_TIMEOUT_MS = 1000, 1_800_000
_TIMEOUT_S = 8.0

NODE_SETTINGS = "{channel_tick_interval, 500}"
"""How often a channel looks at its ack timeout, in ms; the default would be a minute."""


# ---- processes ------------------------------------------------------------------------------------------------------


def _victims(rig: Rig, strike: Strike, title: str) -> list[int]:
    return rig.daemon.titled(title.format(slot=strike.slot))


def _kill(title: str) -> Act:
    def act(rig: Rig, strike: Strike) -> None:
        send_signal(_victims(rig, strike, title), signal.SIGKILL)

    return act


def _stop(title: str) -> Act:
    def act(rig: Rig, strike: Strike) -> Undo:
        pids = _victims(rig, strike, title)
        send_signal(pids, signal.SIGSTOP)
        return lambda: send_signal(pids, signal.SIGCONT)

    return act


def _kill_master(rig: Rig, strike: Strike) -> None:
    rig.daemon.kill()
    rig.restart_daemon()


def _kill_group(rig: Rig, strike: Strike) -> None:
    rig.daemon.kill_all()
    rig.restart_daemon()


def _hang_consumer(rig: Rig, strike: Strike) -> None:
    pids = rig.daemon.titled("consumer email")
    send_signal(pids, signal.SIGSTOP)
    _patiently(lambda: not rig.node.connections())
    send_signal(pids, signal.SIGCONT)


# ---- connections ----------------------------------------------------------------------------------------------------


def _close_connections(rig: Rig, strike: Strike) -> None:
    rig.node.close_all_connections()


def _reset(rig: Rig, strike: Strike) -> None:
    rig.proxy.reset()


def _silence(rig: Rig, strike: Strike) -> None:
    before = rig.losses()
    rig.proxy.silence()
    _patiently(lambda: rig.losses() > before)


def _lose_acks(rig: Rig, strike: Strike) -> Undo:
    """Ended by a reset: on one TCP connection nothing arrives after what got lost."""
    rig.proxy.lose(BASIC_ACK)

    def undo() -> None:
        rig.proxy.reset()
        rig.proxy.deliver()

    return undo


def _delay(rig: Rig, strike: Strike) -> Undo:
    rig.proxy.delay_s = _NETWORK_DELAY_S

    def undo() -> None:
        rig.proxy.delay_s = 0.0

    return undo


# ---- broker, resources ----------------------------------------------------------------------------------------------


def _kill_broker(rig: Rig, strike: Strike) -> None:
    rig.node.restart()


def _stop_broker(rig: Rig, strike: Strike) -> None:
    before = rig.losses()
    rig.node.stop_signal()
    try:
        _patiently(lambda: rig.losses() > before)
    finally:
        rig.node.cont()


def _alarm(resource: str) -> Act:
    def act(rig: Rig, strike: Strike) -> Undo:
        rig.node.set_alarm(resource)
        return lambda: rig.node.clear_alarm(resource)

    return act


def _ack_timeout(rig: Rig, strike: Strike) -> None:
    """Workers that hold messages are stopped until the broker takes these away; later channels are usual again."""
    _set_ack_timeout(rig, _ACK_TIMEOUT_MS)
    before = rig.losses()
    rig.proxy.reset()
    _patiently(lambda: rig.losses() > before and rig.consumers())
    _set_ack_timeout(rig, _USUAL_ACK_TIMEOUT_MS)
    workers = rig.daemon.titled(r"worker email/\d+")
    before = rig.losses()
    send_signal(workers, signal.SIGSTOP)
    _patiently(lambda: rig.losses() > before)
    send_signal(workers, signal.SIGCONT)
    rig.proxy.reset()


def _set_ack_timeout(rig: Rig, milliseconds: int) -> None:
    rig.node.call(f"application:set_env(rabbit, consumer_timeout, {milliseconds})")


def _delete_queue(rig: Rig, strike: Strike) -> None:
    rig.delete_queue()
    eventually(rig.consumers, "the queue is there again, and consumed")


def _full_disk(rig: Rig, strike: Strike) -> None:
    """Until the ledger needs more room than it has: what was allocated before is used up first."""
    before = rig.ledger_failures()
    rig.disk.fill()
    try:
        _patiently(lambda: rig.ledger_failures() > before)
    finally:
        rig.disk.free()


def _patiently(condition: Callable[[], object]) -> None:
    """Wait for it, but not for ever: what strikes hit before may have made it impossible."""
    with suppress(AssertionError):
        eventually(condition, "the fault has its effect", _TIMEOUT_S)


STRIKES: dict[Fault, Act] = {
    Fault.KILL_WORKER: _kill("worker email/{slot}"),
    Fault.KILL_CONSUMER: _kill("consumer email"),
    Fault.KILL_FORKSERVER: _kill("forkserver email"),
    Fault.KILL_MASTER: _kill_master,
    Fault.KILL_GROUP: _kill_group,
    Fault.STOP_WORKER: _stop("worker email/{slot}"),
    Fault.STOP_CONSUMER: _stop("consumer email"),
    Fault.STOP_FORKSERVER: _stop("forkserver email"),
    Fault.STOP_MASTER: _stop("master"),
    Fault.STOP_GROUP: _stop(".*"),
    Fault.HANG_CONSUMER: _hang_consumer,
    Fault.CLOSE_CONNECTIONS: _close_connections,
    Fault.RESET: _reset,
    Fault.SILENCE: _silence,
    Fault.LOSE_ACKS: _lose_acks,
    Fault.DELAY: _delay,
    Fault.KILL_BROKER: _kill_broker,
    Fault.STOP_BROKER: _stop_broker,
    Fault.MEMORY_ALARM: _alarm("memory"),
    Fault.DISK_ALARM: _alarm("disk"),
    Fault.ACK_TIMEOUT: _ack_timeout,
    Fault.DELETE_QUEUE: _delete_queue,
    Fault.FULL_DISK: _full_disk,
}

ALONE = {
    *(Fault.KILL_MASTER, Fault.KILL_GROUP, Fault.HANG_CONSUMER, Fault.SILENCE, Fault.KILL_BROKER, Fault.STOP_BROKER),
    *(Fault.ACK_TIMEOUT, Fault.DELETE_QUEUE, Fault.FULL_DISK),
}
"""These wait for what they lead to: before them all that lasts is ended, so that nothing keeps it from coming."""
