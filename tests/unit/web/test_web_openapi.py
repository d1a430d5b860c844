"""/openapi.json and the code say the same: paths, methods, limits, and the fields of what is returned."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from supervisor.brokers.base import Delivery
from supervisor.brokers.copy_headers import FORMER
from supervisor.config.schema import BrokerConfig, HooksConfig, LogConfig, WebConfig
from supervisor.link.frames import VERSION, StartSidecar
from supervisor.messages.message import Properties
from supervisor.web import request_parsing
from supervisor.web.answers import encoded
from supervisor.web.dead_letters import letter
from supervisor.web.openapi import document
from supervisor.web.server import make_app
from supervisor.web.status_cache import StatusCache
from tests.support.documented import documented_status

DOCUMENT = json.loads(encoded(document()))


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
    shown = json.loads(encoded(letter(1, Delivery(1, 1, "", "q.dead", False, Properties(), b""))))
    promised = DOCUMENT["components"]["schemas"]["Letter"]

    assert shown.keys() == promised["properties"].keys() == set(promised["required"])


def test_a_former_round_of_a_letter_has_the_fields_that_are_promised() -> None:
    headers = {FORMER: [{"round": number, "stack": "x" * 9000} for number in range(9)]}
    shown = letter(1, Delivery(1, 1, "", "q.dead", False, Properties(headers=headers), b""))
    (*_, last) = former = json.loads(encoded(shown))["former"]
    promised = DOCUMENT["components"]["schemas"]["FormerRound"]

    assert last.keys() == promised["properties"].keys() == set(promised["required"])
    assert len(former) == DOCUMENT["components"]["schemas"]["Letter"]["properties"]["former"]["maxItems"]
    assert f"last {len(last['stack']):,} characters" in promised["properties"]["stack"]["description"]


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("/api/exits", request_parsing.EXITS),
        ("/api/exits/series", request_parsing.MINUTES),
        ("/api/exits/series", request_parsing.BUCKETS),
        ("/api/pools/{pool}/letters", request_parsing.LETTERS),
    ],
)
def test_limits_of_parameters_are_the_ones_that_are_kept(path: str, number: request_parsing.Number) -> None:
    (parameter,) = [each for each in DOCUMENT["paths"][path]["get"]["parameters"] if each["name"] == number.name]
    schema = parameter["schema"]

    assert (schema["minimum"], schema["maximum"], schema["default"]) == (number.least, number.most, number.default)


def test_bodies_are_told_with_their_limits() -> None:
    chosen, scale = (DOCUMENT["components"]["schemas"][name] for name in ("Chosen", "Scale"))

    assert chosen["properties"]["ids"] == {
        "type": "array",
        "minItems": 1,
        "maxItems": 1000,
        "items": {"type": "string", "minLength": 1, "maxLength": 255},
    }
    assert chosen["properties"]["kind"] == {"type": "string", "enum": ["dead", "parked"], "default": "dead"}
    assert scale["properties"]["workers"] == {"type": "integer", "minimum": 1, "maximum": 10_000}
    assert chosen["additionalProperties"] is scale["additionalProperties"] is False


@pytest.mark.parametrize("name", sorted(DOCUMENT["components"]["schemas"]))
def test_every_type_is_told_in_words(name: str) -> None:
    assert DOCUMENT["components"]["schemas"][name]["description"].endswith(".")


def test_the_status_is_told_with_all_its_parts() -> None:
    schemas, status = DOCUMENT["components"]["schemas"], documented_status()
    email = status["pools"]["email"]

    for name, value in (
        *(("Status", status), ("PoolStatus", email), ("WorkerStatus", email["workers"][0])),
        *(
            ("ConsumerStatus", email["consumer"]),
            ("Measurements", email["measures"]),
            ("ExitCount", status["exits"][0]),
        ),
    ):
        assert list(schemas[name]["properties"]) == list(value)
