"""/openapi.json: the API's description (OpenAPI 3.1), generated from tables of operations and the types of answers.

Made when it is first asked for. `server.py` has the same paths with their endpoints (a test compares).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from supervisor.control import results
from supervisor.web import answers
from supervisor.web.answers import JSON
from supervisor.web.request_parsing import BUCKETS, EXITS, KINDS, LETTERS, MINUTES, Chosen, Number, Scale

_ABOUT = (
    "The answers of the web process of a preforkd daemon (`[web] listen`). All data come from the control socket and "
    "the exit history. Reading is free on a loopback address; on any other it needs the token, "
    "too (the static page and the bare status of /healthz and /readyz excepted). Every POST needs it. Errors are "
    '`{"error": "what was wrong, where, what to do"}`.'
)
_EVENTS = (
    "Server-sent events. `status` (data: the status object) first, then when anything but clocks has changed, at most "
    "once a second. `exit` (data: an exit record) for each one after that first `status`; earlier ones are in "
    '/api/exits. `silent` (data: {"error", "since"}) once when the daemon does not answer; the next `status` ends it. '
    "A comment every 15 s. A reader that is too slow is disconnected and should connect again. Where reading needs the "
    "token, use fetch() with the Authorization header instead of EventSource."
)
_LETTERS = (
    "Dead or parked messages with their diagnosis, oldest first. Reading takes them out of the queue unsettled and "
    "requeues them; so an answer is kept for 2 s, and for up to a minute while the queue's depth stays as it is."
)

Errors = Mapping[int, str]
_HOST = {421: "The Host header names neither this machine nor an address."}
_READ = {401: "On an address that is not loopback, reading needs the token, too."} | _HOST
_QUERY = {400: "A parameter with a wrong value."} | _READ
_SILENT = {503: "The daemon does not answer (stopped, overloaded, being replaced); `since` is when that began."}
_ACT = {
    401: "No token, or a wrong one.",
    403: "No token_file is configured (the text says how), or the request comes from another site's page.",
    409: "The daemon refuses; the text has the reason and what to do.",
    503: "The daemon or the broker does not answer.",
} | _HOST
_POOL = {404: "No such pool, or no such message."} | _ACT
_BODY = {400: "The body is not the JSON object that is described here.", 413: "The body is too large."} | _POOL


class Operation(NamedTuple):
    """One method of a path. `answer`: a type, or a media type; `further`: answers with other statuses than 200."""

    summary: str
    answer: type | str
    errors: Errors = {}
    query: tuple[dict[str, Any] | Number, ...] = ()
    body: type | None = None
    further: Mapping[int, tuple[str, type]] = {}


def _text(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "description": description, "schema": {"type": "string", **schema}}


_OF_POOL = _text("pool", "Only of this pool.")
_CAUSE = _text("cause", "Only with this cause.")
_KIND = _text("kind", "Which queue.", enum=KINDS, default="dead")

GET = {
    "/": Operation("The page.", "text/html"),
    "/static/{file}": Operation("The files of the page.", "application/octet-stream", {404: "No such file."}),
    "/healthz": Operation(
        "Whether the daemon is alive: false only where a restart would help.",
        answers.Alive,
        further={503: ("The daemon does not answer (`why`, to those who may read).", answers.Alive)},
    ),
    "/readyz": Operation(
        "Whether the daemon is running and each pool does its work.",
        answers.Ready,
        further={503: ("Not ready: `why` has a line for each reason (to those who may read).", answers.Ready)},
    ),
    "/metrics": Operation("Prometheus exposition.", "text/plain", _READ | _SILENT),
    "/openapi.json": Operation("This description.", JSON),
    "/api/status": Operation(
        "The status object of docs/control-protocol.md, at most a second old.", results.Status, _READ | _SILENT
    ),
    "/api/exits": Operation("The last exits, newest first.", answers.Exits, _QUERY, (_OF_POOL, _CAUSE, EXITS)),
    "/api/exits/series": Operation(
        "How many exits of each cause there were, bucket by bucket, oldest first, up to now; without causes that do "
        "not occur.",
        answers.Series,
        _QUERY,
        (MINUTES, BUCKETS, _OF_POOL),
    ),
    "/api/events": Operation(_EVENTS, "text/event-stream", _READ | {503: "Too many readers at once."}),
    "/api/pools/{pool}/letters": Operation(
        _LETTERS,
        answers.Letters,
        _QUERY
        | {
            404: "No such pool, or its queue does not exist yet.",
            503: "Daemon or broker does not answer, or an earlier look at this pool's letters is not over yet.",
        },
        (_KIND, LETTERS),
    ),
}
POST = {
    "/api/pools/{pool}/letters/retry": Operation(
        "Move messages back to the pool's queue, as a new round.", answers.Moved, _BODY, body=Chosen
    ),
    "/api/pools/{pool}/letters/drop": Operation("Delete messages for good.", answers.Dropped, _BODY, body=Chosen),
    "/api/pools/{pool}/pause": Operation("Stop consuming; running handlers finish.", results.Changed, _POOL),
    "/api/pools/{pool}/resume": Operation("Consume again.", results.Changed, _POOL),
    "/api/pools/{pool}/retry": Operation("Start held children and those in back-off at once.", results.Tried, _POOL),
    "/api/pools/{pool}/scale": Operation(
        "Set the number of workers, until the next reload or restart.", results.Scaled, _BODY, body=Scale
    ),
    "/api/reload": Operation(
        "Read the configuration again and replace what it changed. Waits 5 s for the end; then goes on without "
        "waiting, and `reload` of the status shows its progress.",
        results.Reloaded,
        _ACT | {422: "The new configuration cannot be used; nothing has changed."},
        further={202: ("Under way.", answers.Reloading)},
    ),
}


def document() -> dict[str, Any]:
    """The description, as JSON values."""
    operations = [*GET.values(), *POST.values()]
    types = {answers.Error, *(each.body for each in operations if each.body)}
    types |= {each.answer for each in operations if isinstance(each.answer, type)}
    types |= {type_ for each in operations for _text, type_ in each.further.values()}
    schemas = sorted(types, key=lambda type_: type_.__name__)
    _references, components = msgspec.json.schema_components(schemas, ref_template="#/components/schemas/{name}")
    paths: dict[str, dict[str, Any]] = {path: {"get": _described(path, each, "get")} for path, each in GET.items()}
    paths |= {path: {"post": _described(path, each, "post")} for path, each in POST.items()}
    token = {"type": "http", "scheme": "bearer", "description": "The content of `[web] token_file`."}
    return {
        "openapi": "3.1.0",
        "info": {"title": "preforkd", "version": "1", "description": _ABOUT},
        "paths": paths,
        "components": {"securitySchemes": {"token": token}, "schemas": components},
    }


def _described(path: str, operation: Operation, method: str) -> dict[str, Any]:
    further = {status: (text, answers.Error) for status, text in operation.errors.items()} | dict(operation.further)
    responses = {200: ("OK", operation.answer), **further}
    in_path = [
        _text(name, f"A {name}'s name.") | {"in": "path", "required": True} for name in re.findall(r"{(\w+)}", path)
    ]
    in_query = [_parameter(each) | {"in": "query", "required": False} for each in operation.query]
    described: dict[str, Any] = {
        "summary": operation.summary,
        "parameters": in_path + in_query,
        "responses": {
            str(status): {"description": text, "content": _content(answer)}
            for status, (text, answer) in sorted(responses.items())
        },
    }
    if 401 in operation.errors:
        described["security"] = [{"token": []}] if method == "post" else [{}, {"token": []}]
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _content(operation.body)}
    return described


def _parameter(parameter: dict[str, Any] | Number) -> dict[str, Any]:
    if not isinstance(parameter, Number):
        return parameter
    name, least, most, default, description = parameter
    schema = {"type": "integer", "minimum": least, "maximum": most, "default": default}
    return {"name": name, "description": description, "schema": schema}


def _content(answer: type | str) -> dict[str, Any]:
    if isinstance(answer, str):
        return {answer: {"schema": {"type": "object" if answer == JSON else "string"}}}
    return {JSON: {"schema": {"$ref": f"#/components/schemas/{answer.__name__}"}}}
