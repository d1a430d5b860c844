"""Opens the ledger of a pool in a fleet: registers this host's ledger at the store, and brings both parts together.

Runs in the consumer, before its broker connection: it may wait, for a bounded time. A ledger that another place has
registered (a copied state directory, a moved volume, a reboot) is watched from one opening to the next until that place
has been silent for its lease: two daemons with one ledger would each take the other's runs for its own.
"""

from __future__ import annotations

import logging
import os
import socket
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path

from supervisor import __version__
from supervisor.config.schema import FleetConfig, LedgerConfig, PoolConfig
from supervisor.errors import LedgerError, LedgerUnusable
from supervisor.fleet import calls
from supervisor.fleet.address import Address, address
from supervisor.fleet.calls import Blocker, Epoch, Holder
from supervisor.fleet.schema import VERSION
from supervisor.fleet.settings import settings_hash
from supervisor.ledger.base import Ledger, Row
from supervisor.ledger.fleet import FleetLedger
from supervisor.ledger.fleet_peers import silence_s
from supervisor.ledger.fleet_store import OPEN_S, Store
from supervisor.logs.events import Event
from supervisor.logs.structured import log
from supervisor.messages.identity import is_given
from supervisor.quantities import show_seconds
from supervisor.system.clock import boottime_s
from supervisor.system.descriptor_set import DescriptorSet
from supervisor.system.posix import boot_id

GAP = 0.6
"""Of a lease: a watch goes on over looks that are no farther apart. The store may have been away in between, and the
other place needs the rest of its lease to come back and call."""


class Watch:
    """The silence of a blocker, as several looks have seen it. Pure. Times: CLOCK_BOOTTIME."""

    def __init__(self) -> None:
        self._blocker: Blocker | None = None
        self._since_s = self._looked_s = 0.0

    def look(self, blocker: Blocker, now_s: float) -> float:
        """How long it must still be silent, in seconds; 0 or less: it has been for long enough."""
        if blocker != self._blocker or now_s - self._looked_s > GAP * blocker.lease_s:
            self._blocker, self._since_s = blocker, now_s
        self._looked_s = now_s
        return self._since_s + silence_s(blocker.lease_s) - now_s

    def silent(self, now_s: float) -> Blocker | None:
        """The blocker, once it has been silent for long enough."""
        blocker = self._blocker
        if blocker is None or now_s - self._looked_s > GAP * blocker.lease_s:
            return None
        return blocker if now_s >= self._since_s + silence_s(blocker.lease_s) else None


class FleetOpener:
    """Opens one pool's ledger as often as its consumer needs it."""

    def __init__(self, fleet: FleetConfig, ledger: LedgerConfig) -> None:
        self._fleet = fleet
        self._ledger = ledger
        self._watch = Watch()
        self._told: Blocker | None = None

    def open(self, host: Ledger, pool: PoolConfig) -> FleetLedger:
        """The ledger of `pool`; `host` is this host's part, open, and closed again where this fails.

        Raises LedgerError: the store cannot be used now, or the ledger is registered from another place;
        LedgerUnusable: it is the store of another fleet, or has no schema that this version knows.
        """
        deadline_s = boottime_s() + OPEN_S
        with ExitStack() as undo:
            undo.callback(host.close)
            where = self._address()
            descriptors = DescriptorSet()
            undo.callback(descriptors.close)
            store = Store(where, f"preforkd {pool.name}", descriptors, self._fleet.lease_s, self._fleet.host_wait_s)
            undo.callback(store.close)
            self._check(where, *calls.about(store.ask(calls.ABOUT, deadline_s)))
            asked_s = boottime_s()
            epoch = self._register(store, host, pool, deadline_s)
            # fail-point: consumer.fleet-registered: the epoch has begun, its open rows are not compared
            store.begin_epoch(epoch, asked_s, settings_hash(pool, self._ledger))
            entries = calls.entries(store.ask(calls.mine(epoch.epoch), deadline_s))
            opened = FleetLedger(host, store, descriptors, is_tracked)
            opened.reconcile(entries, deadline_s)
            undo.pop_all()
        return opened

    def _address(self) -> Address:
        try:
            return address(self._fleet.url)
        except ValueError as error:
            raise LedgerUnusable(f"[fleet] url_file: {error}") from None

    def _check(self, where: Address, schema: int, fleet: str) -> None:
        store = f"the store of the fleet at {where.shown}"
        if schema < VERSION:
            raise LedgerUnusable(
                f"{store} has schema {schema}, this version of preforkd needs {VERSION}: run `preforkd fleet upgrade`"
            )
        if fleet != self._fleet.name:
            raise LedgerUnusable(
                f"{store} belongs to the fleet {fleet!r}, [fleet] name is {self._fleet.name!r}: "
                "correct the name, or give each fleet a database of its own"
            )

    def _register(self, store: Store, host: Ledger, pool: PoolConfig, deadline_s: float) -> Epoch:
        holder = Holder(
            ledger=bytes.fromhex(host.mark.ledger),
            place=place_of(host.files[0].parent),
            host=socket.gethostname(),
            pool=pool.name,
            queue=pool.queue,
            lease_s=self._fleet.lease_s,
            max_run_s=pool.longest_run_s,
            settings=settings_hash(pool, self._ledger),
            version=__version__,
        )
        silent = self._watch.silent(boottime_s())
        answer = calls.registered(store.ask(calls.register(holder, silent), deadline_s))
        if isinstance(answer, Epoch):
            self._watch, self._told = Watch(), None
            return answer
        raise self._blocked(answer, host.files[0])

    def _blocked(self, blocker: Blocker, path: Path) -> LedgerError:
        left_s = max(1, round(self._watch.look(blocker, boottime_s())))
        text = (
            f"{path}: this ledger is registered from another place, by host {blocker.host} (epoch {blocker.epoch}): a "
            f"copied state_dir, a moved volume, or a reboot; waiting {show_seconds(left_s)} for that place to stay "
            "silent. A daemon that uses the same state_dir or a copy of it has to be stopped: each needs one of its own"
        )
        if self._told is None or self._told.epoch != blocker.epoch:
            self._told = blocker
            log(Event.FLEET_BLOCKED, text, level=logging.WARNING, seconds=left_s)
        return LedgerError(text)


def is_tracked(row: Row) -> bool:
    """Whether the fleet knows the message of this row. A message that came without an id is known to this host alone,
    by an id that no other host can give it; its copies have that id."""
    return (row.round, row.attempt) != (1, 1) or not is_given(row.id)


def place_of(folder: Path) -> str:
    """Where the ledger's `folder` is, for as long as this boot lasts: the lock in it keeps a second consumer of this
    place out. A copy of the folder has another place. Raises LedgerError."""
    try:
        found = folder.stat()
    except OSError as error:
        raise LedgerError(f"{folder}: {error.strerror}: the ledger's folder must stay where it is") from None
    parts = (boot_id(), os.major(found.st_dev), os.minor(found.st_dev), found.st_ino)
    return blake2b(repr(parts).encode(), digest_size=16).hexdigest()
