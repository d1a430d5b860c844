"""Removes passwords of the URLs of broker and store from texts: pure functions, and a set of secrets.

Every process uses it through `supervisor.logs.structured`; errors about the configuration use `redact` directly.
Malformed URLs are redacted, too, since these are the ones in error messages.
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
# libpq takes a password as a parameter, too: PostgreSQL, "Connection URIs".
_PARAMETER = re.compile(r"([?&](?:ssl)?password=)([^&#\s]+)", re.IGNORECASE)


def redact(url: str) -> str:
    """The `url` with its passwords masked: `amqp://user:***@host`."""
    match = _secret_of(url)
    shown = url if match is None else f"{match[1]}{match[2]}:{MASK}{url[match.end(3) :]}"
    return _PARAMETER.sub(rf"\1{MASK}", shown)


def passwords(url: str) -> set[str]:
    """The passwords in `url`, as written and percent-decoded; empty if there is none."""
    match = _secret_of(url)
    found = [match[3]] if match is not None and match[3] else []
    found += [match[2] for match in _PARAMETER.finditer(url)]
    return {text for password in found for text in (password, unquote(password))}


def _secret_of(url: str) -> re.Match[str] | None:
    return _CREDENTIALS.match(url) or _MISSPELT.match(url) or _NO_HOST.match(url)


def without_path(url: str) -> str:
    """The `url` with its path masked, which may be a secret of a webhook: `https://host:8443/***`."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}/{MASK if parts.path.strip('/') or parts.query else ''}"


def secrets_of(url: str) -> set[str]:
    """The secrets in the `url` of a webhook: the whole URL, its path and query, its password."""
    parts = urlsplit(url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return {text for text in (url, target, *passwords(url)) if text.strip("/")}


def without_passwords(
    environment: Mapping[str, str], urls: Iterable[str], tokens: Iterable[str] = ()
) -> dict[str, str]:
    """The `environment` without variables that hold one of these `urls`, its password, or one of the `tokens`, as used
    by `${VAR}`. An empty token is none."""
    secrets = {secret for url in urls if (found := passwords(url)) for secret in (url, *found)} | set(
        filter(None, tokens)
    )
    return {name: value for name, value in environment.items() if not any(_tells(value, one) for one in secrets)}


def _tells(value: str, secret: str) -> bool:
    """Whether the value is the secret, or a URL with it. Other occurrences do not count: it may be a common word."""
    return value.strip() == secret or value.endswith(f":{secret}") or f":{secret}@" in value


class Redactor:
    """Masks known secrets in texts, plain and as escaped by `repr` and JSON."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, secret: str) -> None:
        """Mask `secret` from now on; an empty one is ignored."""
        if not secret:
            return
        self._secrets |= {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1]}
        self._secrets.add(json.dumps(secret, ensure_ascii=False)[1:-1])
        longest_first = sorted(self._secrets, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def clean(self, value: object) -> object:
        """The `value` with secrets masked, also inside lists and tables; other objects become text."""
        if self._pattern is None or value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, str):
            return self._pattern.sub(MASK, value)
        if isinstance(value, dict):
            return {self.clean(str(key)): self.clean(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.clean(item) for item in value]
        return self._pattern.sub(MASK, str(value))
