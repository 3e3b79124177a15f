"""The description of the API, against what makes it."""

from typing import Any

import jsonschema
import msgspec

from onetape.gateway.bodies import Error
from onetape.gateway.openapi import description, document
from onetape.gateway.operations import OPERATIONS, Access
from onetape.gateway.replies import REPLIES

DOCUMENT = document()


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, told)
        for path, item in DOCUMENT["paths"].items()
        for method, told in item.items()
    ]


def test_it_has_every_method_of_every_operation_under_a_name_of_its_own() -> None:
    expected = {
        (path, method.lower())
        for one in OPERATIONS.values()
        for path in one.paths
        for method in one.methods
    }
    names = [told["operationId"] for _, _, told in operations()]

    assert {(path, method) for path, method, _ in operations()} == expected
    assert len(set(names)) == len(names)


def test_every_reference_leads_somewhere() -> None:
    text = description().decode()
    known = DOCUMENT["components"]["schemas"]

    for part in text.split('"$ref":"#/components/schemas/')[1:]:
        assert part.partition('"')[0] in known


def test_every_schema_is_one() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_a_quality_is_described_with_how_it_reads() -> None:
    quality = DOCUMENT["components"]["schemas"]["Quality"]

    assert {"reasons", "confidence", "freshness", "aged"} <= quality["properties"].keys()
    assert {"provider", "confidence"} <= set(quality["required"])
    assert "Reading" not in DOCUMENT["components"]["schemas"]


def test_parameters_are_described_as_they_are_read() -> None:
    """No nulls: what is not given is left out."""
    told = {
        one["name"]: one for one in DOCUMENT["paths"]["/api/options/chain"]["get"]["parameters"]
    }

    assert told["underlying"]["required"] is True
    assert told["strikeWindow"]["schema"] == {"type": "integer"}
    assert told["first_expiration"]["schema"] == {"type": "string", "format": "date"}
    assert "null" not in msgspec.json.encode(told).decode()


def test_lists_stand_between_commas() -> None:
    (tickers,) = DOCUMENT["paths"]["/api/quotes"]["get"]["parameters"]

    assert (tickers["style"], tickers["explode"]) == ("form", False)
    assert (tickers["schema"]["minItems"], tickers["schema"]["maxItems"]) == (1, 250)


def test_what_needs_a_credential_says_so_and_how_it_is_refused() -> None:
    """R29: by either header."""
    for _, _, told in operations():
        name = told["operationId"].removeprefix("head_").removesuffix("_2")
        is_public = OPERATIONS[name].access is Access.PUBLIC
        assert (told["security"] == []) == is_public
        assert ({"403", "429"} <= told["responses"].keys()) != is_public


def test_every_status_that_is_told_has_its_codes() -> None:
    """R31."""
    told = DOCUMENT["paths"]["/api/bars"]["get"]["responses"]

    assert told.keys() == {"200", "400", "403", "404", "413", "429", "500", "502", "503", "504"}
    for status, response in told.items():
        for code in response["description"].split("`")[1::2]:
            assert REPLIES[code].http_status == int(status)
    assert "retry-after" in told["429"]["headers"]


def test_head_has_no_body_and_the_rest_has_one() -> None:
    for _, method, told in operations():
        for response in told["responses"].values():
            assert ("content" in response) == (method != "head")


def test_metrics_are_text_and_what_is_unwell_has_the_same_body() -> None:
    metrics = DOCUMENT["paths"]["/metrics"]["get"]["responses"]["200"]["content"]
    health = DOCUMENT["paths"]["/api/health"]["get"]["responses"]

    assert list(metrics) == ["text/plain"]
    assert health["503"]["content"] == health["200"]["content"]
    assert len(health["200"]["content"]["application/json"]["schema"]["anyOf"]) == 2


def test_the_error_is_the_one_of_everywhere() -> None:
    assert set(DOCUMENT["components"]["schemas"]["Error"]["required"]) == Error.__required_keys__
