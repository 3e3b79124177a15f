"""/openapi.json: the table of operations as OpenAPI 3.1.

    Operation ──▶ path item ──▶ parameters   the fields of its Struct
                     │      ──▶ 200          the schema of its answer
                     └──────▶ 4xx, 5xx       the errors it can have, by `replies`

Made once, from types; nothing in it is written twice.
"""

import inspect
from collections.abc import Iterator, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any, Final

import msgspec

from onetape import __version__
from onetape.gateway import bodies
from onetape.gateway.operations import OPERATIONS, Access, Operation
from onetape.gateway.replies import REPLIES
from onetape.market_json import Reading
from onetape.provenance import Quality

_SCHEMAS: Final = "#/components/schemas/"
_JSON: Final = "application/json"
_ERROR: Final = bodies.Error.__name__
_REQUEST_ID: Final = {
    "x-request-id": {
        "description": "What the log calls this request.",
        "schema": {"type": "string"},
    }
}
_RETRY_AFTER: Final = {
    "retry-after": {
        "description": "Seconds to wait, where it is known.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    }
}

_OF_ALL: Final = ("frame_too_large", "invalid_request", "internal")
_OF_CREDENTIALS: Final = (
    "token_missing",
    "token_invalid",
    "token_expired",
    "token_revoked",
    "throttled",
)
_OF_DATA: Final = ("not_entitled", "invalid_symbol")
_OF_VENDORS: Final = (
    "upstream_down",
    "upstream_timeout",
    "upstream_garbled",
    "upstream_forbidden",
    "upstream_throttled",
    "provider_failed",
    "MASSIVE_API_ERROR",
    "TRADIER_API_ERROR",
    "MAX_RETRIES_EXCEEDED",
    "ALL_PROVIDERS_FAILED",
    "shutting_down",
)
_TEXT: Final = """Market data of stocks, indices and options, judged: every `quality` object says \
how far a number can be trusted and how that reads at `as_of_ns`.

Times whose names end in `_ns` are nanoseconds UTC; JavaScript reads them to within 256 ns. \
What is not known is `null`, never 0. `HEAD` is answered as `GET`, without the body; other \
methods are 405 with `Allow`. Errors have one shape, and `code` never changes its meaning. \
The vendor's own paths, served beside these, are not described here."""


@cache
def description() -> bytes:
    """Return the document as JSON. Takes some ms: call it from a thread the first time."""
    return msgspec.json.encode(document())


def document() -> dict[str, Any]:
    """Return the document."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "onetape", "version": __version__, "description": _TEXT},
        "servers": [{"url": "/"}],
        "paths": _paths(),
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A client key, or a token minted from one.",
                },
                "proxyToken": {"type": "apiKey", "in": "header", "name": "x-massive-proxy-token"},
            },
        },
    }


# operations


def _paths() -> dict[str, dict[str, Any]]:
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS.values():
        for at, path in enumerate(operation.paths):
            for method in operation.methods:
                name = operation.name + (f"_{at + 1}" if at else "")
                told = _operation(operation, name if method != "HEAD" else f"head_{name}", method)
                paths.setdefault(path, {})[method.lower()] = told
    return paths


def _operation(operation: Operation, name: str, method: str) -> dict[str, Any]:
    is_public = operation.access is Access.PUBLIC
    return {
        "operationId": name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "deprecated": operation.deprecated,
        "security": [] if is_public else [{"bearer": []}, {"proxyToken": []}],
        "parameters": list(_parameters(operation)),
        "responses": dict(_responses(operation, has_body=method != "HEAD")),
    }


def _parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    schema = _components()[operation.parameters.__name__]
    for name, told in schema["properties"].items():
        plain = _without_null(told)
        parameter = {
            "name": name,
            "in": "query",
            "required": name in schema["required"],
            "description": plain.pop("description", ""),
            "schema": plain,
        }
        if plain.get("type") == "array":
            parameter |= {"style": "form", "explode": False}
        yield parameter


def _without_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of what is given: a parameter that is not given is no null."""
    plain = dict(schema)
    if plain.get("default", ...) is None:
        del plain["default"]
        kinds = [kind for kind in plain.pop("anyOf") if kind != {"type": "null"}]
        plain |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    return plain


def _responses(operation: Operation, *, has_body: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "200", _response("As asked.", _body(operation) if has_body else None)
    error = {_JSON: {"schema": {"$ref": _SCHEMAS + _ERROR}}} if has_body else None
    by_status: dict[int, list[str]] = {}
    for code in _codes(operation):
        by_status.setdefault(REPLIES[code].http_status, []).append(f"`{code}`")
    for status, codes in sorted(by_status.items()):
        response = _response(f"{HTTPStatus(status).phrase}: {', '.join(codes)}.", error)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            response["headers"] |= _RETRY_AFTER
        yield str(status), response
    if operation.unhealthy:
        yield "503", _response("Not well.", _body(operation) if has_body else None)


def _response(text: str, content: Mapping[str, Any] | None) -> dict[str, Any]:
    told: dict[str, Any] = {"description": text, "headers": dict(_REQUEST_ID)}
    return told if content is None else {**told, "content": content}


def _body(operation: Operation) -> dict[str, Any]:
    kinds: tuple[Any, ...] = operation.answers
    if kinds == (str,):
        return {"text/plain": {"schema": {"type": "string"}}}
    refs = [{"$ref": _SCHEMAS + kind.__name__} for kind in kinds]
    return {_JSON: {"schema": refs[0] if len(refs) == 1 else {"anyOf": refs}}}


def _codes(operation: Operation) -> Iterator[str]:
    yield from _OF_ALL
    if operation.access is not Access.PUBLIC:
        yield from _OF_CREDENTIALS
    if operation.access is Access.DATA:
        yield from _OF_DATA
    if operation.asks_vendor:
        yield from _OF_VENDORS
    if operation.may_be_missing:
        yield "not_found"


# schemas


@cache
def _components() -> dict[str, dict[str, Any]]:
    """Return the schemas of all answers and all parameters."""
    kinds: list[Any] = [bodies.Error, Reading]
    for operation in OPERATIONS.values():
        kinds += [*operation.answers, operation.parameters]
    _, components = msgspec.json.schema_components(
        [kind for kind in kinds if kind is not str], ref_template=_SCHEMAS + "{name}"
    )
    return {name: _tidied(schema) for name, schema in components.items()}


def _schemas() -> dict[str, Any]:
    """Return those that bodies are made of; a quality is written with its reading."""
    hidden = {operation.parameters.__name__ for operation in OPERATIONS.values()}
    schemas = {name: told for name, told in _components().items() if name not in hidden}
    quality, reading = schemas[Quality.__name__], schemas.pop(Reading.__name__)
    schemas[Quality.__name__] = {
        **quality,
        "properties": quality["properties"] | reading["properties"],
        "required": [*quality["required"], *reading["required"]],
    }
    return schemas


def _tidied(schema: dict[str, Any]) -> dict[str, Any]:
    if "description" in schema:
        schema["description"] = inspect.cleandoc(schema["description"])
    return schema
