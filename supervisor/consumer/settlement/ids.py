"""The ids that we give to messages without one, so that their copies have one. Known again by their looks."""

from __future__ import annotations

import re
import uuid

_PREFIX = "preforkd-"
_GIVEN = re.compile(_PREFIX + "[0-9a-f]{32}")


def give_id() -> str:
    """A new id."""
    return _PREFIX + uuid.uuid4().hex


def given(id: str) -> bool:
    """Whether this `id` came from us: a first run under it has no original that could come back under the same id."""
    return _GIVEN.fullmatch(id) is not None
