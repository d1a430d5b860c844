"""The rules of [web] and [hooks]. Pure."""

from __future__ import annotations

import re
import shlex
from ipaddress import ip_address
from urllib.parse import urlsplit

from supervisor.config import schema
from supervisor.config.report import did_you_mean
from supervisor.config.rule_kinds import Rule, above_zero, count_within, when
from supervisor.logs.events import Cause

MIN_TOKEN_CHARACTERS = 16
_HOST = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?", re.IGNORECASE)


def _bad_listen(web: schema.WebConfig) -> str:
    try:
        host, port = web.address if web.listen else ("", 0)
    except ValueError:
        return 'must be host:port, such as "127.0.0.1:9750" or "[::1]:9750"'
    if web.listen and not host:
        return "names no address: write 127.0.0.1:PORT, or 0.0.0.0:PORT for all addresses"
    return "" if 0 <= port <= 65_535 else "the port must be at most 65535"


def _open_to_all(web: schema.WebConfig) -> str:
    if not web.listen or web.has_token or is_loopback(web.address[0]):
        return ""
    return "is not a loopback address, so other machines can reach it: that needs token_file, or token"


def bad_token(text: str) -> str:
    """What is wrong with the `text` as a token; "" if nothing is. A token fits into the header Authorization."""
    if len(text) < MIN_TOKEN_CHARACTERS:
        return f"must have at least {MIN_TOKEN_CHARACTERS} characters"
    fits = text.isascii() and text.isprintable() and " " not in text
    return "" if fits else "must be one line of ASCII characters, without blanks"


def _bad_hosts(web: schema.WebConfig) -> str:
    odd = next((name for name in web.allowed_hosts if not _HOST.fullmatch(name)), None)
    return (
        "" if odd is None else f'{odd!r} is no host name: write it without scheme and port; "*.name" for all below it'
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address; a name other than `localhost` may be anything."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _command(name: str) -> Rule:
    return Rule((name,), lambda hooks: _bad_command(getattr(hooks, name)), "for a shell write sh -c '…'")


def _bad_command(text: str) -> str:
    try:
        words = shlex.split(text)
    except ValueError as error:
        return f"cannot be split into words: {str(error).lower()}"
    return "" if words or not text else "contains no program"


def _bad_webhook(hooks: schema.HooksConfig) -> str:
    try:
        parts = urlsplit(hooks.webhook)
        parts.port  # noqa: B018  (raises ValueError for a port that is none)
    except ValueError:
        return "not a URL"
    if not hooks.webhook or (parts.scheme in ("http", "https") and parts.hostname):
        return "" if hooks.webhook.isprintable() and " " not in hooks.webhook else "not a URL: it contains a blank"
    return 'must be "https://host/…" (or "http://…")'


def _unknown_causes(hooks: schema.HooksConfig) -> list[str]:
    return [word for word in hooks.causes if word not in set(Cause)]


def _bad_causes(hooks: schema.HooksConfig) -> str:
    unknown = _unknown_causes(hooks)
    return f'there is no cause "{unknown[0]}": docs/exits.md has them all' if unknown else ""


WEB_RULES = (
    Rule(("listen",), _bad_listen),
    Rule(
        ("listen", "token_file", "token"),
        lambda web: "" if _bad_listen(web) else _open_to_all(web),
        "or 127.0.0.1",
    ),
    Rule(("token",), lambda web: bad_token(web.token) if web.token else "", "openssl rand -hex 16 makes one"),
    Rule(
        ("token", "token_file"),
        when(lambda web: bool(web.token and web.token_file), "and token_file are both given"),
        "keep one of the two",
    ),
    Rule(("allowed_hosts",), _bad_hosts),
)
"""Those of [web]."""

HOOKS_RULES = (
    *(_command(name) for name in ("on_exit", "on_hold", "on_dead")),
    Rule(("webhook",), _bad_webhook),
    Rule(("causes",), _bad_causes, lambda hooks: did_you_mean(_unknown_causes(hooks)[0], list(Cause))),
    count_within("rate"),
    above_zero("timeout"),
)
"""Those of [hooks]."""
