"""/openapi.json and the code say the same: paths, methods, limits, and the fields of what is returned."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from supervisor.brokers.base import Delivery
from supervisor.brokers.copy_headers import FORMER
from supervisor.config.schema import BrokerConfig, HooksConfig, LogConfig, WebConfig
from supervisor.link.frames import VERSION, StartSidecar
from supervisor.messages.message import Properties
from supervisor.web import read_endpoints, request_parsing
from supervisor.web.app import make_app
from supervisor.web.dead_letters import letter
from supervisor.web.status_cache import StatusCache

DOCUMENT = json.loads((Path("supervisor/web/openapi.json")).read_text())


@pytest.fixture
def app(tmp_path: Path) -> Starlette:
    start = StartSidecar(
        version=VERSION,
        web=WebConfig(listen="127.0.0.1:0"),
        hooks=HooksConfig(),
        broker=BrokerConfig(),
        log=LogConfig(),
        state_dir=str(tmp_path),
        runtime_dir=str(tmp_path),
        source="",
        master_pid=1,
    )
    gate: Any = make_app(start, StatusCache(tmp_path, tmp_path))
    inner: Starlette = gate._app
    return inner


def described() -> set[tuple[str, str]]:
    """Every operation of the document."""
    return {(path, method.upper()) for path, methods in DOCUMENT["paths"].items() for method in methods}


def references(value: Any) -> Iterator[str]:
    """Every `$ref` below a value."""
    if isinstance(value, dict):
        yield from [value["$ref"]] if "$ref" in value else []
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_what_is_described_is_there_and_what_is_there_is_described(app: Starlette) -> None:
    routes = [route for route in app.routes if isinstance(route, Route)]
    served = {(route.path, method) for route in routes for method in route.methods or () if method != "HEAD"}

    assert served | {("/static/{file}", "GET")} == described()


def test_every_reference_leads_somewhere() -> None:
    names = {reference.removeprefix("#/components/schemas/") for reference in references(DOCUMENT)}

    assert names <= DOCUMENT["components"]["schemas"].keys()


@pytest.mark.parametrize(("path", "method"), sorted(described()))
def test_an_operation_is_told_in_words_and_with_its_parameters(path: str, method: str) -> None:
    operation = DOCUMENT["paths"][path][method.lower()]
    in_path = [each["name"] for each in operation.get("parameters", []) if each["in"] == "path"]

    assert operation["summary"].endswith(".")
    assert in_path == re.findall(r"{(\w+)}", path)
    if method == "POST":
        assert operation["security"] == [{"token": []}]
        assert {"401", "403"} <= operation["responses"].keys()


def test_a_letter_has_the_fields_that_are_promised() -> None:
    shown = letter(1, Delivery(1, 1, "", "q.dead", False, Properties(), b""))
    promised = DOCUMENT["components"]["schemas"]["Letter"]

    assert shown.keys() == promised["properties"].keys() == set(promised["required"])


def test_a_former_round_of_a_letter_has_the_fields_that_are_promised() -> None:
    headers = {FORMER: [{"round": number, "stack": "x" * 9000} for number in range(9)]}
    (*_, last) = former = letter(1, Delivery(1, 1, "", "q.dead", False, Properties(headers=headers), b""))["former"]
    promised = DOCUMENT["components"]["schemas"]["FormerRound"]

    assert last.keys() == promised["properties"].keys() == set(promised["required"])
    assert len(former) == DOCUMENT["components"]["schemas"]["Letter"]["properties"]["former"]["maxItems"]
    assert f"last {len(last['stack']):,} characters" in promised["properties"]["stack"]["description"]


@pytest.mark.parametrize(
    ("path", "name", "most"),
    [
        ("/api/exits", "limit", read_endpoints.MOST_EXITS),
        ("/api/exits/series", "minutes", read_endpoints.MOST_MINUTES),
        ("/api/exits/series", "buckets", read_endpoints.MOST_BUCKETS),
        ("/api/pools/{pool}/letters", "limit", read_endpoints.MOST_LETTERS),
    ],
)
def test_limits_of_parameters_are_the_ones_that_are_kept(path: str, name: str, most: int) -> None:
    (parameter,) = [each for each in DOCUMENT["paths"][path]["get"]["parameters"] if each["name"] == name]

    assert parameter["schema"]["maximum"] == most


def test_bodies_are_read_by_the_limits_that_are_told() -> None:
    _, schemas = msgspec.json.schema_components([request_parsing.Chosen, request_parsing.Scale], ref_template="{name}")
    told = DOCUMENT["components"]["schemas"]["Chosen"]["properties"]["ids"]
    ids = schemas["Chosen"]["properties"]["ids"]
    scale = DOCUMENT["paths"]["/api/pools/{pool}/scale"]["post"]["requestBody"]["content"]["application/json"]["schema"]

    assert (ids["minItems"], ids["maxItems"], ids["items"]) == (told["minItems"], told["maxItems"], told["items"])
    assert schemas["Scale"]["properties"]["workers"] == scale["properties"]["workers"]
