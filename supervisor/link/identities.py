"""What frames name: one life of a worker, one intended run of a message. Data only; imported from `link/frames.py`."""

from __future__ import annotations

from typing import Annotated

import msgspec

from supervisor.link.ranges import Number


class Incarnation(msgspec.Struct, frozen=True, array_like=True):
    """One life of a worker: its slot and generation (unique in the life of the state directory)."""

    slot: Number
    generation: Number


class RunId(msgspec.Struct, frozen=True, array_like=True):
    """One intended run of one message: `key` names the message, (round, attempt) orders its runs."""

    key: Annotated[bytes, msgspec.Meta(max_length=32)]
    round: Number
    attempt: Number
