import re

import msgspec
import pytest

from onetape import errors
from onetape.errors import BY_CODE, OnetapeError


def all_errors() -> list[type[OnetapeError]]:
    found = [OnetapeError]
    for cls in found:
        found += cls.__subclasses__()
    return [cls for cls in found if cls.__module__ == errors.__name__]


each_error = pytest.mark.parametrize("cls", all_errors(), ids=lambda cls: cls.__name__)


@each_error
def test_every_error_that_names_a_code_comes_back_from_the_wire(cls: type[OnetapeError]) -> None:
    if "code" in vars(cls):
        assert type(BY_CODE[cls.code]("why", retry_after_s=1)) is cls


@each_error
def test_the_module_docstring_draws_every_error_and_its_code(cls: type[OnetapeError]) -> None:
    drawing = errors.__doc__ or ""
    assert re.search(rf"\b{cls.__name__}\b", drawing)
    if "code" in vars(cls):
        assert re.search(rf"\b{cls.__name__} +{cls.code}\b", drawing)


def test_codes_are_public_words() -> None:
    of_the_data_layer = {code for code in BY_CODE if code.isupper()}
    """R265: its codes are written as they were."""

    assert of_the_data_layer == {
        "ALL_PROVIDERS_FAILED",
        "MASSIVE_API_ERROR",
        "TRADIER_API_ERROR",
        "CONTRACT_NOT_FOUND",
        "MAX_RETRIES_EXCEEDED",
    }
    assert all(
        re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in BY_CODE.keys() - of_the_data_layer
    )
    assert all(issubclass(cls, OnetapeError) for cls in BY_CODE.values())


def test_an_error_says_how_long_to_wait_only_if_it_knows() -> None:
    assert OnetapeError("why").retry_after_s is None
    assert str(errors.Throttled("early", retry_after_s=2.5)) == "early"


def test_a_provider_error_keeps_what_each_provider_said_and_is_safe_to_print() -> None:
    """R264: code, provider, status and the chain of causes, JSON-safe."""
    massive = errors.MassiveApiError("no answer", provider="massive", status=503)
    foreign = ValueError("https://somewhere/?apiKey=canary")
    error = errors.AllProvidersFailed("nobody answered", causes=[massive, foreign])

    assert error.__cause__ is foreign
    assert error.as_dict() == {
        "code": "ALL_PROVIDERS_FAILED",
        "message": "nobody answered",
        "provider": None,
        "status": None,
        "retry_after_s": None,
        "causes": [massive.as_dict(), {"code": "internal", "message": "ValueError"}],
    }
    assert b"canary" not in msgspec.json.encode(error.as_dict())
    timeout = errors.UpstreamTimeout("too late")
    assert errors.TradierApiError("x", causes=[timeout]).as_dict()["causes"] == [
        {"code": "upstream_timeout", "message": "too late"}
    ]
