import copy
import pickle

import msgspec
import pytest
from hypothesis import given, strategies as st

from onetape.secret import Secret

CANARY = "kQ7vR2mX9pL4wZ8tB6nC3yH5"


def test_a_secret_is_revealed_only_when_asked() -> None:
    assert Secret(CANARY).reveal() == CANARY


@pytest.mark.parametrize("template", ["{}", "{!s}", "{!r}", "{!a}", "{:>40}", "{:s}"])
def test_every_way_of_printing_shows_stars(template: str) -> None:
    """R16, W-14."""
    assert template.format(Secret(CANARY)) == "***"


def test_a_container_of_secrets_shows_stars() -> None:
    shown = repr({"key": [Secret(CANARY)], "pair": (Secret(CANARY), 1)})

    assert shown == "{'key': [***], 'pair': (***, 1)}"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_is_not_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Secret(CANARY), protocol)


def test_a_secret_is_not_copied_encoded_or_taken_apart() -> None:
    for leak in (copy.copy, copy.deepcopy, msgspec.json.encode, msgspec.to_builtins, vars):
        with pytest.raises(TypeError) as refused:
            leak(Secret(CANARY))
        assert CANARY[:4] not in str(refused.value)
    with pytest.raises(TypeError):
        Secret(CANARY).__getstate__()


def test_a_secret_has_no_length_and_is_no_string() -> None:
    assert not hasattr(Secret(CANARY), "__len__")
    assert not hasattr(Secret(CANARY), "__dict__")
    assert Secret(CANARY) != CANARY


def test_an_empty_secret_cannot_be_made() -> None:
    """An empty credential would match an empty one that was presented."""
    with pytest.raises(ValueError, match="not empty"):
        Secret("")


@given(st.text(min_size=1), st.text(min_size=1))
def test_secrets_are_equal_when_their_values_are(one: str, other: str) -> None:
    """R18: of equal or unequal length."""
    assert Secret(one) == Secret(one)
    assert hash(Secret(one)) == hash(Secret(one))
    assert (Secret(one) == Secret(other)) == (one == other)
    assert Secret(one).matches(other) == (one == other)


def test_what_a_caller_presents_may_be_any_text() -> None:
    assert not Secret(CANARY).matches("\udcff")
    assert not Secret(CANARY).matches("")
