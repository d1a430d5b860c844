"""Durations as arguments of the command line: `30s`, `5m`, or a number of seconds."""

from __future__ import annotations

from typing import Any

import click

from supervisor.quantities import read_seconds


class Seconds(click.ParamType[float]):
    """A duration, in seconds once it is read."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it as the configuration does."""
        try:
            return read_seconds(float(value) if _is_number(value) else value)
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


SECONDS = Seconds()


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True
