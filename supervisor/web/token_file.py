"""The token that actions need: `[web] token`, or the content of `token_file`. Only the log's redactor gets it, too.

The file is checked with each token, so a new token is valid at once. While the file is unusable, every token is
refused.
"""

from __future__ import annotations

import hmac
import os
import stat
from pathlib import Path
from typing import Protocol

from supervisor.config.schema import WebConfig
from supervisor.config.sidecar_rules import MIN_TOKEN_CHARACTERS, bad_token
from supervisor.errors import StateError
from supervisor.logs import structured
from supervisor.system.secret_file import exposure, readable_by

_MAX_BYTES = 4096
_SCHEME = "bearer "


class Token(Protocol):
    """A token that requests are compared with."""

    def accepts(self, authorization: str) -> bool:
        """Whether `authorization`, the value of the header, has the token. Raises StateError while there is none."""


def token_of(web: WebConfig) -> Token | None:
    """The token of the configuration; None where there is none. Raises StateError as `TokenFile` does."""
    if web.token:
        return FixedToken(web.token)
    return TokenFile(Path(web.token_file)) if web.token_file else None


class FixedToken:
    """The token that the configuration has itself, in most cases from a variable."""

    def __init__(self, token: str) -> None:
        """`token`: as `rules.bad_token` wants it."""
        self._token = token.encode()
        structured.add_secret(token)

    def accepts(self, authorization: str) -> bool:
        """As Token has it."""
        return _has(authorization, self._token)


class TokenFile:
    """One token file. `uid`: the user that will read it; None: this process's."""

    def __init__(self, path: Path, uid: int | None = None) -> None:
        """Read it. Raises StateError: missing, readable by others, too short."""
        self._path = path
        self._uid = os.geteuid() if uid is None else uid
        self._for_another = uid is not None
        self._seen: tuple[int, ...] = ()
        self._token = b""
        self.check()

    def check(self) -> None:
        """Read it again if it has changed. Raises StateError."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise StateError(
                f"[web] token_file {self._path}: cannot be read: {error.strerror}; "
                f"write a token of at least {MIN_TOKEN_CHARACTERS} characters there, readable by preforkd's user only"
            ) from error
        try:
            self._read(descriptor)
        finally:
            os.close(descriptor)

    def accepts(self, authorization: str) -> bool:
        """Whether `authorization`, the value of the header, has the token. Raises StateError as `check` does."""
        self.check()
        return _has(authorization, self._token)

    def _read(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        self._refuse_exposed(found)
        seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        if seen == self._seen:
            return
        token = os.read(descriptor, _MAX_BYTES).strip()
        if bad_token(token.decode("latin-1")):
            raise StateError(
                f"[web] token_file {self._path}: a token is one line of at least {MIN_TOKEN_CHARACTERS} characters, "
                f"ASCII and without blanks: head -c 24 /dev/urandom | base64 > {self._path}"
            )
        self._token, self._seen = token, seen
        structured.add_secret(token.decode())

    def _refuse_exposed(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise StateError(f"[web] token_file {self._path}: this is not a file; name one that holds the token")
        if exposed := exposure(self._path, found, self._uid):
            raise StateError(f"[web] token_file: {exposed.reason}: {exposed.hint}")
        if self._for_another and not readable_by(found, self._uid):
            raise StateError(
                f"[web] token_file {self._path}: preforkd's user (uid {self._uid}) may not read it: "
                f"chown {self._uid} {self._path}"
            )


def _has(authorization: str, token: bytes) -> bool:
    """Whether the value of the header has this token; compared in constant time."""
    if authorization[: len(_SCHEME)].lower() != _SCHEME:
        return False
    given = authorization[len(_SCHEME) :].strip().encode(errors="surrogateescape")
    return hmac.compare_digest(given, token)
