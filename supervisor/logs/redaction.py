"""Keeping passwords of broker URLs out of what people read: pure functions, and a set of secrets to strike out.

Every process uses it through `supervisor.logs.structured`; error texts about the configuration use `redact` directly. A
URL that is not well-formed is redacted all the same, since those are the ones that end up in error messages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote, urlsplit

MASK = "***"

# The password begins after the first colon and ends at the last @, so one with an unescaped @ or / is hidden, too.
_CREDENTIALS = re.compile(r"^(\s*(?>(?:[a-z][a-z0-9+.-]*:/+)?))([^:/\s]*):(.*)@", re.IGNORECASE | re.DOTALL)
# A scheme that is misspelt (amqp//user:…@host), or no host behind the password: what follows the colon is no port.
_MISSPELT = re.compile(r"^(\s*[a-z][a-z0-9+.-]*:?/+)([^:\[\]]*):(.*)@", re.IGNORECASE | re.DOTALL)
_NO_HOST = re.compile(
    r"^(\s*[a-z][a-z0-9+.-]*:/+)([^:/@\[\]]*):(?!\d{0,5}(?:[/?\s]|$))(.*)$", re.IGNORECASE | re.DOTALL
)


def redact(url: str) -> str:
    """The URL with its password struck out: `amqp://user:***@host`."""
    match = _secret_of(url)
    return url if match is None else f"{match[1]}{match[2]}:{MASK}{url[match.end(3) :]}"


def passwords(url: str) -> set[str]:
    """The password in a URL as written and percent-decoded; empty when there is none."""
    match = _secret_of(url)
    if match is None or not match[3]:
        return set()
    return {match[3], unquote(match[3])}


def _secret_of(url: str) -> re.Match[str] | None:
    return _CREDENTIALS.match(url) or _MISSPELT.match(url) or _NO_HOST.match(url)


def without_path(url: str) -> str:
    """A URL whose path may be a secret (a webhook's), for people: `https://host:8443/***`."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}/{MASK if parts.path.strip('/') or parts.query else ''}"


def secrets_of(url: str) -> set[str]:
    """What must be shown nowhere of such a URL: all of it, its path and query, its password."""
    parts = urlsplit(url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return {text for text in (url, target, *passwords(url)) if text.strip("/")}


def without_passwords(environment: Mapping[str, str], urls: Iterable[str]) -> dict[str, str]:
    """The environment without variables that hold one of these URLs or its password: those that `${VAR}` has named."""
    secrets = {secret for url in urls if (found := passwords(url)) for secret in (url, *found)}
    return {name: value for name, value in environment.items() if not any(_tells(value, one) for one in secrets)}


def _tells(value: str, secret: str) -> bool:
    """Not just any occurrence: a password may be a common word."""
    return value.strip() == secret or value.endswith(f":{secret}") or f":{secret}@" in value


class Redactor:
    """Strikes known secrets out of texts, as they are and as `repr` and JSON escape them."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, secret: str) -> None:
        """Strike this out from now on; an empty one is ignored."""
        if not secret:
            return
        self._secrets |= {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1]}
        self._secrets.add(json.dumps(secret, ensure_ascii=False)[1:-1])
        longest_first = sorted(self._secrets, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def clean(self, value: object) -> object:
        """The same value without secrets, deep inside lists and tables as well; other objects become text."""
        if self._pattern is None or value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, str):
            return self._pattern.sub(MASK, value)
        if isinstance(value, dict):
            return {self.clean(str(key)): self.clean(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.clean(item) for item in value]
        return self._pattern.sub(MASK, str(value))
