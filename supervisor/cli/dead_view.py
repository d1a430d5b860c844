"""A dead or parked message, written for people or for programs. Pure.

No value can imitate a further line: line ends in properties and names are written escaped, in headers indented. Other
characters that command a terminal are escaped by whatever prints the text (`console.block`).
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from supervisor.brokers.base import Delivery
from supervisor.brokers.copy_headers import FORMER, PREFIX, PREVIEW_BYTES, diagnosis, former_rounds, plain, preview

_SUMMARY = ("cause", "attempts", "at", "reason")
_STACK = f"{PREFIX}stack"
_LAST = (_STACK, FORMER)


def summary(delivery: Delivery) -> tuple[str, str, str, str, str]:
    """One line of `dead list`: id, cause, attempts, at, reason."""
    ours = diagnosis(delivery)
    cells = (ours.get(name, "-") for name in ("cause", "attempts", "at"))
    cause, attempts, at = (str(cell) for cell in cells)
    reason = str(ours.get("reason", "")).strip().partition("\n")[0]
    return delivery.properties.message_id or "-", cause, attempts, at, reason


def describe(delivery: Delivery) -> str:
    """Properties and headers, one a line, then the stack, then what ended former rounds, the last one first."""
    properties = msgspec.structs.asdict(delivery.properties)
    lines = [
        f"{name}: {_one_line(value)}" for name, value in properties.items() if value is not None and name != "headers"
    ]
    headers = delivery.properties.headers or {}
    lines += [
        f"  {_one_line(name)}: {_indented(value)}" for name, value in sorted(headers.items()) if name not in _LAST
    ]
    if stack := headers.get(_STACK):
        lines += ["stack:", str(stack).rstrip()]
    for facts in reversed(former_rounds(headers)):
        lines += [
            f"former round {facts.pop('round', '?')}:",
            *(f"  {name}: {_indented(facts[name])}" for name in facts),
        ]
    return "\n".join(lines)


def body_text(body: bytes) -> str:
    """The beginning of the body: as text where it is UTF-8, else in hexadecimal."""
    more = f"\n… {len(body) - PREVIEW_BYTES} more byte(s)" if len(body) > PREVIEW_BYTES else ""
    return f"body: {len(body)} byte(s)\n{preview(body)}{more}"


def as_json_object(delivery: Delivery) -> dict[str, Any]:
    """Everything, as JSON values; a body that is not UTF-8 is in `body_base64`."""
    properties = msgspec.structs.asdict(delivery.properties)
    result: dict[str, Any] = {
        "id": delivery.properties.message_id,
        **{name: value for name, value in diagnosis(delivery).items() if name in _SUMMARY},
        "properties": plain({name: value for name, value in properties.items() if value is not None}),
    }
    try:
        result["body"] = delivery.body.decode()
    except UnicodeDecodeError:
        result["body_base64"] = base64.b64encode(delivery.body).decode()
    return result


def _indented(value: Any) -> str:
    return str(value).replace("\n", "\n    ")


def _one_line(value: Any) -> str:
    return str(value).replace("\n", "\\n")
