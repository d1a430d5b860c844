"""Identities in frames: one generation of a worker, one intended run of a message. Data only; for `link/frames.py`."""

from __future__ import annotations

from typing import Annotated

import msgspec

from supervisor.link.ranges import Number


class Incarnation(msgspec.Struct, frozen=True, array_like=True):
    """One worker: its slot and generation, unique within the state directory."""

    slot: Number
    generation: Number


class RunId(msgspec.Struct, frozen=True, array_like=True):
    """One intended run of one message: `key` names the message, (round, attempt) orders its runs."""

    key: Annotated[bytes, msgspec.Meta(max_length=32)]
    round: Number
    attempt: Number
