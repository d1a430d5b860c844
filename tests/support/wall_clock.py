"""The wall clock of a daemon under test, set as a person or a time daemon would; its other clocks go on."""

from __future__ import annotations

from pathlib import Path

import pytest

_PATCH = """
import time

def _clock_gettime(clock, _real=time.clock_gettime):
    if clock != time.CLOCK_REALTIME:
        return _real(clock)
    with open({path!r}) as file:
        return _real(clock) + float(file.read())

time.clock_gettime = _clock_gettime
"""


class WallClock:
    """Daemons started after this was made have this clock."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._path = directory / "off"
        site = directory / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(_PATCH.format(path=str(self._path)))
        monkeypatch.setenv("PYTHONPATH", str(site))
        self.set(0.0)

    def set(self, off_s: float) -> None:
        """It is off by so many seconds from now on."""
        new = self._path.with_suffix(".new")
        new.write_text(str(off_s))
        new.rename(self._path)
