"""The token that actions need: the content of `[web] token_file`. It never leaves this file but for the log's redactor.

The file is checked with each token, so a new token is valid at once. While the file is unusable, every token is
refused.
"""

from __future__ import annotations

import hmac
import os
import stat
from pathlib import Path

from supervisor.errors import StateError
from supervisor.logs import structured

MIN_CHARACTERS = 16
_MAX_BYTES = 4096
_SCHEME = "bearer "


class TokenFile:
    """One token file. `uid`: the user that will read it; None: this process's."""

    def __init__(self, path: Path, uid: int | None = None) -> None:
        """Read it. Raises StateError: missing, readable by others, too short."""
        self._path = path
        self._owners = (os.geteuid(), 0) if uid is None else (uid,)
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
                f"write a token of at least {MIN_CHARACTERS} characters there, readable by preforkd's user only"
            ) from error
        try:
            self._read(descriptor)
        finally:
            os.close(descriptor)

    def accepts(self, authorization: str) -> bool:
        """Whether `authorization`, the value of the header, has the token. Raises StateError as `check` does."""
        self.check()
        if authorization[: len(_SCHEME)].lower() != _SCHEME:
            return False
        given = authorization[len(_SCHEME) :].strip().encode(errors="surrogateescape")
        return hmac.compare_digest(given, self._token)

    def _read(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        self._refuse_other_readers(found)
        seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        if seen == self._seen:
            return
        token = os.read(descriptor, _MAX_BYTES).strip()
        if len(token) < MIN_CHARACTERS or not token.isascii() or not token.decode().isprintable() or b" " in token:
            raise StateError(
                f"[web] token_file {self._path}: a token is one line of at least {MIN_CHARACTERS} characters, ASCII "
                f"and without blanks: head -c 24 /dev/urandom | base64 > {self._path}"
            )
        self._token, self._seen = token, seen
        structured.add_secret(token.decode())

    def _refuse_other_readers(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise StateError(f"[web] token_file {self._path}: this is not a file; name one that holds the token")
        if found.st_mode & 0o077:
            raise StateError(f"[web] token_file {self._path}: others may read it: chmod 600 {self._path}")
        if found.st_uid not in self._owners:
            raise StateError(
                f"[web] token_file {self._path}: it belongs to uid {found.st_uid}, who could set the token: "
                f"chown it to preforkd's user (uid {self._owners[0]})"
            )
