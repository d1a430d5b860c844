"""A dead or parked message, written for people or for programs. Pure; what it writes is not made harmless yet."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from supervisor.brokers.base import Delivery
from supervisor.consumer.copies import PREFIX

_PREVIEW_BYTES = 2000
_SUMMARY = ("cause", "attempts", "at", "reason")
_STACK = f"{PREFIX}stack"


def summary(delivery: Delivery) -> tuple[str, str, str, str, str]:
    """One line of `dead list`: id, cause, attempts, at, reason."""
    ours = _diagnosis(delivery)
    cells = (ours.get(name, "-") for name in ("cause", "attempts", "at"))
    cause, attempts, at = (str(cell) for cell in cells)
    reason = str(ours.get("reason", "")).strip().partition("\n")[0]
    return delivery.properties.message_id or "-", cause, attempts, at, reason


def describe(delivery: Delivery) -> str:
    """Properties, headers and the stack, one a line."""
    properties = msgspec.structs.asdict(delivery.properties)
    lines = [f"{name}: {value}" for name, value in properties.items() if value is not None and name != "headers"]
    headers = delivery.properties.headers or {}
    lines += [f"  {name}: {_indented(value)}" for name, value in sorted(headers.items()) if name != _STACK]
    stack = headers.get(_STACK)
    return "\n".join([*lines, "stack:", str(stack).rstrip()] if stack else lines)


def body_text(body: bytes) -> str:
    """The beginning of the body: as text where it is UTF-8, else in hexadecimal."""
    beginning = body[:_PREVIEW_BYTES]
    more = f"\n… {len(body) - len(beginning)} more byte(s)" if len(body) > len(beginning) else ""
    return f"body: {len(body)} byte(s)\n{_as_text(beginning, cut=bool(more))}{more}"


def as_json_object(delivery: Delivery) -> dict[str, Any]:
    """Everything, as JSON values; a body that is not UTF-8 is in `body_base64`."""
    properties = msgspec.structs.asdict(delivery.properties)
    result: dict[str, Any] = {
        "id": delivery.properties.message_id,
        **{name: value for name, value in _diagnosis(delivery).items() if name in _SUMMARY},
        "properties": _plain({name: value for name, value in properties.items() if value is not None}),
    }
    try:
        result["body"] = delivery.body.decode()
    except UnicodeDecodeError:
        result["body_base64"] = base64.b64encode(delivery.body).decode()
    return result


def _diagnosis(delivery: Delivery) -> dict[str, Any]:
    headers = delivery.properties.headers or {}
    return {name.removeprefix(PREFIX): value for name, value in headers.items() if name.startswith(PREFIX)}


def _indented(value: Any) -> str:
    return str(value).replace("\n", "\n    ")


def _plain(value: Any) -> Any:
    """What AMQP tables hold, as JSON can hold it."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def _as_text(beginning: bytes, cut: bool) -> str:
    try:
        return beginning.decode()
    except UnicodeDecodeError as error:
        if cut and error.start > len(beginning) - 4:  # only its last character was cut in two
            return beginning[: error.start].decode()
        return beginning.hex(" ", 4)
