"""The configuration as the daemon uses it: frozen structs, durations in seconds (`_s`), sizes in bytes (`_bytes`).

This file is only the vocabulary that every process shares: it imports nothing but msgspec, and travels over channels
as it is. `load.py` reads TOML, `sections.py` sections and keys, `keys.py` units; `report.py` words the errors.
"""

from __future__ import annotations

from typing import Any

import msgspec


class DaemonConfig(msgspec.Struct, frozen=True):
    """[daemon]: where state lives and how the daemon ends."""

    state_dir: str = "/var/lib/preforkd"
    runtime_dir: str = "/run/preforkd"
    stop_timeout_s: float = 60.0
    user: str = ""
    group: str = ""
    env_file: str = ""


class LogConfig(msgspec.Struct, frozen=True):
    """[log]."""

    level: str = "info"
    format: str = "auto"
    file: str = "-"


class TlsConfig(msgspec.Struct, frozen=True):
    """[broker.tls]."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    verify: bool = True


class BrokerConfig(msgspec.Struct, frozen=True):
    """[broker]. `urls` holds secrets: it is never logged; users see the result of `logs.structured.redact`."""

    urls: tuple[str, ...] = ("embedded:",)
    heartbeat_s: float = 15.0
    blocked_timeout_s: float = 300.0
    ack_timeout_s: float = 1800.0
    tls: TlsConfig = TlsConfig()

    @property
    def embedded(self) -> bool:
        """Whether the queue is the one inside the state directory."""
        return self.urls == ("embedded:",)


class LedgerConfig(msgspec.Struct, frozen=True):
    """[ledger]."""

    sync: str = "full"
    keep_s: float = 7 * 86400.0
    keep_max: int = 5_000_000
    dedupe: str = "keep"


class FleetConfig(msgspec.Struct, frozen=True):
    """[fleet]: the ledger that several daemons share. `url` is the content of `url_file`, and as secret as `urls`."""

    url: str
    name: str
    lease_s: float = 90.0
    host_wait_s: float = 0.0


KERNEL_MARGIN_S = 3.0
"""How long the kernel waits after `kill_grace` for the kill by the master, which comes with a stack dump."""


class Binding(msgspec.Struct, frozen=True):
    """One entry of `bindings`: bind the pool's queue to this exchange when it is declared."""

    exchange: str
    routing_key: str = ""


class PoolConfig(msgspec.Struct, frozen=True):
    """[pools.NAME]: one queue, one handler, N workers."""

    name: str
    queue: str
    handler: str
    init: str = ""
    middleware: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    workers: int = 4
    prefetch: int = 112  # see docs/configuration.md; fewer where ack_timeout allows no more: cross_checks.fitted
    timeout_s: float = 30.0
    soft_timeout_s: float = 0.0  # 0: none
    max_timeout_s: float = 300.0
    timeout_header: str = ""
    max_wait_s: float = 0.0  # 0: none
    kill_grace_s: float = 2.0
    max_attempts: int = 5
    retry_delays_s: tuple[float, ...] = (1.0, 10.0, 60.0, 600.0)
    on_crash: str = "retry"
    max_messages: int = 10_000  # 0: no limit, here and below
    max_age_s: float = 6 * 3600.0
    max_memory_bytes: int = 256 * 1024**2
    kill_memory_bytes: int = 1024**3
    restart_backoff_s: tuple[float, float] = (0.1, 30.0)
    restart_intensity: tuple[int, float] = (10, 60.0)
    hold_retry_s: float = 60.0
    boot_timeout_s: float = 60.0
    missing_id: str = "run"
    id_header: str = ""
    transport_headers: tuple[str, ...] = ()
    exclusive: bool = False
    consumer_priority: int = 0
    declare: bool = True
    queue_arguments: dict[str, Any] = {}
    bindings: tuple[Binding, ...] = ()
    environment: dict[str, str] = {}

    @property
    def kernel_grace_s(self) -> float:
        """How long after the hard limit of a run the kernel kills its worker, if neither worker nor master did."""
        return self.kill_grace_s + KERNEL_MARGIN_S

    @property
    def longest_run_s(self) -> float:
        """How long a run may last at most (CLOCK_BOOTTIME), whatever is stopped: with every extension, and until the
        kernel kills its worker."""
        return max(self.timeout_s, self.max_timeout_s) + self.kernel_grace_s


class WebConfig(msgspec.Struct, frozen=True):
    """[web]: the page, metrics and HTTP API; off while `listen` is empty."""

    listen: str = ""
    token_file: str = ""
    token: str = ""
    allowed_hosts: tuple[str, ...] = ()

    @property
    def has_token(self) -> bool:
        """Whether there is a token: actions are possible, and other machines may be."""
        return bool(self.token or self.token_file)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of `listen`. Raises ValueError where it is none."""
        host, _, port = self.listen.rpartition(":")
        return host.removeprefix("[").removesuffix("]"), int(port)


class HooksConfig(msgspec.Struct, frozen=True):
    """[hooks]: commands and a URL that are told of events. `webhook` may be a secret: it is never logged."""

    on_exit: str = ""
    on_hold: str = ""
    on_dead: str = ""
    webhook: str = ""
    causes: tuple[str, ...] = (
        *("crash", "killed", "out_of_memory", "memory_limit", "timeout"),
        *("boot_failed", "unexpected_exit", "lost"),
    )
    rate: tuple[int, float] = (10, 60.0)
    timeout_s: float = 10.0

    @property
    def wanted(self) -> bool:
        """Whether anybody is to be told of anything."""
        return bool(self.on_exit or self.on_hold or self.on_dead or self.webhook)


class Config(msgspec.Struct, frozen=True):
    """The whole configuration, and the file it came from ("" for none).

    `variables`: those of `env_file` that the environment does not have. They may hold secrets: they are never logged.
    """

    source: str
    daemon: DaemonConfig
    log: LogConfig
    broker: BrokerConfig
    ledger: LedgerConfig
    pools: dict[str, PoolConfig]
    web: WebConfig = WebConfig()
    hooks: HooksConfig = HooksConfig()
    fleet: FleetConfig | None = None
    variables: dict[str, str] = {}

    @property
    def secret_urls(self) -> tuple[str, ...]:
        """The URLs whose passwords belong in no log, no error and no handler's environment."""
        return (*self.broker.urls, *([self.fleet.url] if self.fleet else ()))
