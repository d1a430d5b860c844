"""The names of all log events, and the causes of exits: fixed words that logs, status, records and tests share."""

from __future__ import annotations

from enum import StrEnum


class Event(StrEnum):
    """Every `event` that a log line can carry."""

    DAEMON_STARTED = "daemon.started"
    DAEMON_READY = "daemon.ready"
    DAEMON_STOPPING = "daemon.stopping"
    DAEMON_STOPPED = "daemon.stopped"
    WORKER_READY = "worker.ready"
    WORKER_EXITED = "worker.exited"
    FORKSERVER_READY = "forkserver.ready"
    FORKSERVER_EXITED = "forkserver.exited"
    CONSUMER_READY = "consumer.ready"
    CONSUMER_EXITED = "consumer.exited"
    CONSUMER_CONNECTED = "consumer.connected"
    CONSUMER_DISCONNECTED = "consumer.disconnected"
    CONSUMER_STARVED = "consumer.starved"
    QUEUE_UNRESPONSIVE = "queue.unresponsive"
    QUEUE_SHARED = "queue.shared"
    MESSAGE_FAILED = "message.failed"
    MESSAGE_RETRIED = "message.retried"
    MESSAGE_DEAD = "message.dead"
    MESSAGE_PARKED = "message.parked"
    MESSAGE_DUPLICATE = "message.duplicate"
    MESSAGE_ID_REUSED = "message.id_reused"
    POOL_DEGRADED = "pool.degraded"
    POOL_HELD = "pool.held"
    POOL_RECOVERED = "pool.recovered"
    LEDGER_SLOW = "ledger.slow"
    LEDGER_FAILED = "ledger.failed"
    LEDGER_EVICTED = "ledger.evicted"
    RELOAD_DONE = "reload.done"
    RELOAD_FAILED = "reload.failed"
    CONFIG_INVALID = "config.invalid"
    STRANGER_ENDED = "stranger.ended"
    """A process nobody named was adopted by the master (left behind by user code) and was ended."""


class Cause(StrEnum):
    """Why a child left; published in exit records (docs/exits.md)."""

    CLEAN_STOP = "clean_stop"
    UNEXPECTED_EXIT = "unexpected_exit"
    RECYCLED = "recycled"
    BOOT_FAILED = "boot_failed"
    TIMEOUT = "timeout"
    CRASH = "crash"
    KILLED = "killed"
    OUT_OF_MEMORY = "out_of_memory"
    MEMORY_LIMIT = "memory_limit"
    STOP_KILLED = "stop_killed"
    LOST = "lost"
