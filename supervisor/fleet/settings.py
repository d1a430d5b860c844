"""The settings that must agree on all hosts of a fleet. Pure."""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from supervisor.config.schema import LedgerConfig, PoolConfig

AGREED = "on_crash, max_attempts, max_timeout, missing_id, id_header, transport_headers and dedupe"
"""Their names, for people."""


def settings_hash(pool: PoolConfig, ledger: LedgerConfig) -> int:
    """64 bits over the settings that must agree on all hosts: they decide which message is which, and who runs it."""
    agreed = (
        pool.on_crash,
        pool.max_attempts,
        pool.max_timeout_s,
        pool.missing_id,
        pool.id_header,
        sorted(pool.transport_headers),
        ledger.dedupe,
    )
    return int.from_bytes(blake2b(msgspec.json.encode(agreed), digest_size=8).digest(), "big", signed=True)
