"""The programs to run for an event: the hook's command, and a post to the webhook. Pure; used by the hooks process.

A command gets the event as JSON on its standard input and its plain facts as variables, PREFORKD_CAUSE and so on.
`post.py` reads the webhook's URL from its input, so that the URL is in no argument list.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from supervisor.config.schema import HooksConfig

WEBHOOK = "webhook"
_VARIABLE_CHARACTERS = 1000


@dataclass
class Delivery:
    """One program to run. `key`: the key of [hooks]; `tries`: the number of runs so far."""

    key: str
    command: list[str]
    variables: dict[str, str]
    payload: bytes
    tries: int = 0


def deliveries(config: HooksConfig, hook: str, facts: Mapping[str, Any]) -> list[Delivery]:
    """The programs to run for an event. `hook`: `exit`, `hold` or `dead`; `facts`: the event's JSON values."""
    event = json.dumps({"hook": hook, **facts}, ensure_ascii=False)
    found = []
    if command := {"exit": config.on_exit, "hold": config.on_hold, "dead": config.on_dead}.get(hook, ""):
        variables = _variables({"hook": hook, **facts})
        found.append(Delivery(f"on_{hook}", shlex.split(command), variables, f"{event}\n".encode(errors="replace")))
    if config.webhook:
        order = json.dumps({"url": config.webhook, "event": event, "timeout_s": config.timeout_s})
        found.append(Delivery(WEBHOOK, [sys.executable, "-P", "-m", "supervisor.hooks.post"], {}, order.encode()))
    return found


def _variables(facts: Mapping[str, Any]) -> dict[str, str]:
    """Plain facts of one line, an absent one as an empty variable. Stacks are only in the JSON."""
    plain = {name: _plain(value) for name, value in facts.items() if not isinstance(value, dict | list)}
    return {f"PREFORKD_{name.upper()}": text for name, text in plain.items() if "\n" not in text}


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).replace("\0", "").encode(errors="replace").decode()[:_VARIABLE_CHARACTERS].strip()
