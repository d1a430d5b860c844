"""The version and the commit of the installed code."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path

from supervisor import __version__

_PACKAGE = Path(__file__).resolve().parent.parent
_GIT_S = 5.0


def version_line() -> str:
    """`preforkd VERSION (commit COMMIT)`, without the commit where it is not known."""
    commit = commit_of(_PACKAGE)
    return f"preforkd {__version__} (commit {commit})" if commit else f"preforkd {__version__}"


def commit_of(package: Path) -> str:
    """The commit of the code in `package`: what the build wrote, or else what git says of the checkout; "" if unknown.

    `-dirty` is appended where files of the checkout differ from the commit.
    """
    with suppress(OSError, UnicodeDecodeError):
        return (package / "commit.txt").read_text().strip()
    if not (package.parent / ".git").exists():  # not a checkout, or in a folder of another repository
        return ""
    command = ["git", "-C", str(package.parent), "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    with suppress(OSError, subprocess.SubprocessError):
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_GIT_S)
        return told.stdout.strip()
    return ""
