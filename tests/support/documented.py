"""The status object as docs/control-protocol.md shows it: tests of it begin with that, so the page stays true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_PAGE = ROOT / "docs/control-protocol.md"


def documented_status() -> dict[str, Any]:
    """As it stands there; a fact with several possible values (`"ok|held"`) has the first of them."""
    status: dict[str, Any] = _settled(_shown())
    return status | {"started_at": "2026-11-22T10:00:00.000Z"}


def alternatives(*path: str) -> tuple[str, ...]:
    """The possible values of a fact."""
    found: Any = _shown()
    for name in path:
        found = found[int(name) if isinstance(found, list) else name]
    return tuple(str(found).split("|"))


def _shown() -> Any:
    _, _, after = _PAGE.read_text().partition("Status object:\n```json\n")
    return json.loads(after.partition("```")[0])


def _settled(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _settled(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_settled(part) for part in value]
    return value.partition("|")[0] if isinstance(value, str) else value
