"""Reads a file that the configuration names and that may hold secrets: `url_file`, `webhook_file`, `env_file`.

Used by the loader, in the command line and in the master. `system/secret_file.py` says which of these files is refused.
Root above all must not read a file that another user can replace by a link: it would take any file for this one.
"""

from __future__ import annotations

import os
from pathlib import Path

from supervisor.config.text import NoText, read_text, unreadable
from supervisor.system.secret_file import exposure


def read_secret(path: Path, owner: int | None = None) -> str:
    """The text of the file. `owner`: a uid that the file may belong to, besides root's.

    Raises NoText if it cannot be read, or if the wrong users could read or change it; the reason names it.
    """
    try:
        exposed = exposure(path, path.stat(), os.geteuid(), owner)
        if exposed is not None:
            raise NoText("rights", exposed.reason, exposed.hint)
    except OSError as error:
        raise _of(path, unreadable(path, error)) from None
    try:
        return read_text(path)[0]
    except OSError as error:
        raise _of(path, unreadable(path, error)) from None
    except NoText as error:
        raise _of(path, error) from None


def _of(path: Path, error: NoText) -> NoText:
    return NoText(error.place, f"{path}: {error.reason}", error.hint)
