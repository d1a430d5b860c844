"""The daemons that the benchmark of growth starts have configurations that preforkd accepts."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from benchmarks.bench.growth import POINTS, Point
from supervisor.config.load import interpret


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_the_configuration_of_each_point_is_accepted(point: Point, tmp_path: Path) -> None:
    pool = f'[pools.email]\nhandler = "h:h"\nqueue = "q"\n{point.pool_settings}\n'
    tree = tomllib.loads(f'[daemon]\nstate_dir = "{tmp_path}"\n{point.ledger_settings}{pool}')
    config = interpret(tree, tmp_path / "preforkd.toml", {})
    assert (config.pools["email"].workers, config.ledger.keep_max) == (point.workers, point.keep_max)
