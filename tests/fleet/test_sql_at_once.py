"""Calls of several holders at the same time: every order of their statements has an answer that the rules explain."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.fleet_scenarios import SCENARIOS
from tests.support.fleet_steps import STEPPED, World, explore
from tests.support.fleet_store import FleetStore

SOAK = "PREFORKD_SOAK" in os.environ


@pytest.fixture(scope="module")
def world(fleet_database: FleetStore) -> Iterator[World]:
    world = World(fleet_database)
    fleet_database.make(STEPPED)
    yield world


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_order_of_statements_has_an_answer_by_the_rules(world: World, name: str) -> None:
    scenario = SCENARIOS[name]
    assert explore(world, scenario, 4 if SOAK else 4 - len(scenario.sessions)) > 1
