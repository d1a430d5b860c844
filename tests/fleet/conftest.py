"""One database for the tests of a file; each test finds it empty."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.fleet_store import FleetStore
from tests.support.postgresql import PostgreSQL


@pytest.fixture(scope="module")
def fleet_database(postgresql: PostgreSQL) -> Iterator[FleetStore]:
    store = FleetStore(postgresql, postgresql.new_database())
    store.make()
    yield store
    store.close()
    store.owner.close()


@pytest.fixture
def store(fleet_database: FleetStore) -> Iterator[FleetStore]:
    fleet_database.clear()
    yield fleet_database
    fleet_database.close()
