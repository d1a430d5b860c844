"""The identity of a message: a key that names one intended message, and a digest of its content. Pure.

Used by the consumer for every delivery. A message and its retry copy must have the same digest, or the copy would
count as another message. So the digest covers only what a copy keeps, and no header that preforkd, a broker, a tracer
or a client library adds on the way (`transport_headers.py`).

The rules changed: rule 2 excludes headers of tracers, rule 1 did not. Rows of the ledger live for days, so a message
is also looked up under the digests of former rules (`former_digests`).
"""

from __future__ import annotations

import hashlib
import re
import struct
import uuid
from collections.abc import Iterator
from functools import cache
from typing import Any

from supervisor.messages.field_tables import pack_canonical, pack_words
from supervisor.messages.message import Properties
from supervisor.messages.transport_headers import Matcher, transport, transport_before

ID_BYTES = 16
"""The first bytes of a key: the id within its queue."""
DIGEST_BYTES = 8
"""The last bytes of a key: the content."""

_PREFIX = "preforkd-"
_GIVEN = re.compile(_PREFIX + "[0-9a-f]{32}")

BUILT_IN: Matcher = transport()
_FORMER_RULES = (transport_before(1),)

_lengths = struct.Struct("<II").pack


def give_id() -> str:
    """An id for a message that came without one; no other has it."""
    return _PREFIX + uuid.uuid4().hex


def is_given(id: str) -> bool:
    """Whether this `id` came from us: a first run under it has no original that could come back under the same id."""
    return _GIVEN.fullmatch(id) is not None


def message_key(vhost: str, queue: str, id: str, digest: bytes) -> bytes:
    """The ledger's key: 16 bytes (BLAKE2b) for `id` within `vhost` and `queue`, then 8 of the content `digest`.

    The lengths of vhost and queue are hashed with them: ("a", "bc") and ("ab", "c") are different scopes.
    """
    named = _scope(vhost, queue) + id.encode()
    return hashlib.blake2b(named, digest_size=ID_BYTES).digest() + digest[:DIGEST_BYTES]


@cache
def _scope(vhost: str, queue: str) -> bytes:
    scope, name = vhost.encode(), queue.encode()
    return _lengths(len(scope), len(name)) + scope + name


def content_digest(properties: Properties, body: bytes, is_transport: Matcher = BUILT_IN) -> bytes:
    """16 bytes (BLAKE2b) that differ if the content differs for a handler, and are the same for a copy.

    Excluded: delivery_mode, expiration, user_id and cluster_id (a copy loses or changes them), message_id (it is in
    the key, and the first copy of a message without one gets one), timestamp (a publisher that sends a message again
    after an unknown outcome sets it again), and headers for which `is_transport` is true.
    """
    own = _own_headers(properties.headers, is_transport) if properties.headers else None
    return _digest(properties, own, body)


def former_digests(properties: Properties, body: bytes, is_transport: Matcher) -> Iterator[bytes]:
    """The digests of former rules that differ from the present one, which excludes `is_transport` headers.

    A pool's own transport headers may be new: so the built-in list alone counts as a former rule.
    """
    tried = [_own_headers(properties.headers, is_transport)]
    for former in (BUILT_IN, *_FORMER_RULES):
        own = _own_headers(properties.headers, former)
        if own not in tried:
            tried.append(own)
            yield _digest(properties, own, body)


def _digest(properties: Properties, own: dict[str, Any] | None, body: bytes) -> bytes:
    words = (
        properties.content_type,
        properties.content_encoding,
        properties.priority,
        properties.correlation_id,
        properties.reply_to,
        properties.type,
        properties.app_id,
    )
    head = pack_words((*words, None)) if own is None else pack_canonical((*words, own))
    digest = hashlib.blake2b(head, digest_size=16)
    digest.update(body)
    return digest.digest()


def _own_headers(headers: dict[str, Any] | None, is_transport: Matcher) -> dict[str, Any] | None:
    """The headers of the publisher; None if there are none, as on a message without a header table."""
    return {name: value for name, value in (headers or {}).items() if not is_transport(name)} or None
