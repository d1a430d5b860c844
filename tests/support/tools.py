"""The programs besides Python that tests need. `make test` installs them, so that only a single run can lack one."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

_WAY = f"{os.environ['PATH']}:/usr/sbin:/sbin"


def tool(name: str) -> str:
    """The path of a program that .ci/need-NAME installs; skips the test (or fails it, under CI=true) without."""
    return shutil.which(name, path=_WAY) or cannot(f"{name} is not installed here: .ci/need-{name}")


def cannot(reason: str) -> NoReturn:
    """Skip the test; under CI=true fail it, where everything is there and a skipped test would be a lost one."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
