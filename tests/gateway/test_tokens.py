"""A token is what we signed, in one spelling, or it is nothing."""

import base64
from typing import Any

import jwt
import msgspec
import pytest
from hypothesis import given, strategies as st

from onetape.errors import TokenInvalid
from onetape.gateway.keys import SigningKey
from onetape.gateway.tokens import (
    AUDIENCE,
    ISSUER,
    Claims,
    looks_like_token,
    new_claims,
    sign,
    verified,
)

SECOND = 1_000_000_000
NOW = 1_764_000_000 * SECOND
KEY = SigningKey(kid="0badcafe", secret=bytes(range(32)), created_ns=NOW)
KEYS = {KEY.kid: KEY}
CLAIMS = new_claims("abcdefgh", now_ns=NOW, ttl_s=300, authenticated_ns=None)
TOKEN = sign(CLAIMS, KEY)


_jws: Any = jwt.PyJWS()  # annotated with a package that HS256 does not need


def signed(claims: object, *, key: bytes = KEY.secret, **header: object) -> str:
    headers = {"kid": KEY.kid, **header}
    token: str = _jws.encode(msgspec.json.encode(claims), key, "HS256", headers=headers)
    return token


def test_a_token_comes_back_as_it_was_signed() -> None:
    assert looks_like_token(TOKEN)
    assert verified(TOKEN, KEYS, NOW) == CLAIMS


def test_a_token_lives_at_least_its_time_and_under_a_second_more() -> None:
    """R33: expiry is now + 300 s ± 1; two calls differ."""
    late = new_claims("k", now_ns=NOW + 1, ttl_s=300, authenticated_ns=None)

    assert CLAIMS.expires_ns == NOW + 300 * SECOND
    assert NOW + 300 * SECOND < late.expires_ns < NOW + 1 + 301 * SECOND
    assert CLAIMS.jti != late.jti


def test_a_renewal_passes_on_when_the_key_was_shown() -> None:
    renewed = new_claims("k", now_ns=NOW, ttl_s=300, authenticated_ns=NOW - 3600 * SECOND)

    assert (renewed.iat, renewed.auth_time) == (NOW // SECOND, NOW // SECOND - 3600)


def test_a_token_says_nothing_of_scopes_or_secrets() -> None:
    """W-07: a key id in the token, no part of any secret."""
    header, payload, _ = TOKEN.split(".")

    assert base64.urlsafe_b64decode(header + "==") == (
        b'{"alg":"HS256","kid":"0badcafe","typ":"JWT"}'
    )
    assert msgspec.json.decode(base64.urlsafe_b64decode(payload + "==")).keys() == {
        "iss",
        "aud",
        "sub",
        "jti",
        "iat",
        "exp",
        "auth_time",
    }


@given(at=st.integers(0, len(TOKEN) * 8 - 1))
def test_any_flipped_bit_makes_it_invalid(at: int) -> None:
    flipped = bytearray(TOKEN.encode())
    flipped[at // 8] ^= 1 << at % 8

    with pytest.raises(TokenInvalid):
        verified(flipped.decode("latin-1"), KEYS, NOW)


@given(end=st.integers(0, len(TOKEN) - 1))
def test_any_truncation_is_invalid(end: int) -> None:
    with pytest.raises(TokenInvalid):
        verified(TOKEN[:end], KEYS, NOW)


@pytest.mark.parametrize("appended", ["=", "\n", "A", ".", " ", "==", "\0"])
def test_a_token_has_one_spelling(appended: str) -> None:
    for other in (TOKEN + appended, appended + TOKEN):
        with pytest.raises(TokenInvalid):
            verified(other, KEYS, NOW)


@given(junk=st.text(max_size=60))
def test_junk_is_invalid_and_nothing_worse(junk: str) -> None:
    with pytest.raises(TokenInvalid):
        verified(junk, KEYS, NOW)


_segment = st.text("ABCabc012-_", min_size=10, max_size=30)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def _encoded(value: object) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(value)).rstrip(b"=").decode()


@given(header=st.dictionaries(st.sampled_from(["alg", "kid", "crit", "b64", "typ"]), _json))
def test_any_header_is_invalid_and_nothing_worse(header: dict[str, object]) -> None:
    _, payload, signature = TOKEN.split(".")

    with pytest.raises(TokenInvalid):
        verified(f"{_encoded({'alg': 'HS256', **header})}.{payload}.{signature}", KEYS, NOW)


@given(claims=st.dictionaries(st.sampled_from(Claims.__struct_fields__), _json))
def test_even_signed_claims_must_be_ours(claims: dict[str, object]) -> None:
    with pytest.raises(TokenInvalid):
        verified(signed(claims), KEYS, NOW)


def test_deep_json_is_invalid_and_no_recursion_error() -> None:
    deep = base64.urlsafe_b64encode(b"[" * 300).decode()

    with pytest.raises(TokenInvalid):
        verified(f"{deep}.{deep[:100]}.{TOKEN[-43:]}", KEYS, NOW)


@pytest.mark.parametrize(
    "token",
    [
        signed(CLAIMS, key=b"another secret of thirty-two bytes"),
        signed(CLAIMS, kid="unknown"),
        signed(msgspec.structs.replace(CLAIMS, aud="other")),
        signed(msgspec.structs.replace(CLAIMS, iss="other")),
        signed(msgspec.to_builtins(CLAIMS) | {"aud": [AUDIENCE]}),
        signed({k: v for k, v in msgspec.to_builtins(CLAIMS).items() if k != "jti"}),
        signed(msgspec.to_builtins(CLAIMS) | {"exp": "soon"}),
        _jws.encode(msgspec.json.encode(CLAIMS), None, "none", headers={"kid": KEY.kid}),
        _jws.encode(msgspec.json.encode(CLAIMS), KEY.secret * 2, "HS512", headers={"kid": KEY.kid}),
    ],
    ids=["secret", "kid", "aud", "iss", "aud-list", "no-jti", "exp", "alg-none", "alg-512"],
)
def test_a_token_not_made_as_we_make_them_is_invalid(token: str) -> None:
    assert AUDIENCE == ISSUER == "onetape"
    with pytest.raises(TokenInvalid):
        verified(token, KEYS, NOW)


def test_a_retired_key_verifies_no_more() -> None:
    """W-07: rotation with overlap."""
    retiring = {KEY.kid: msgspec.structs.replace(KEY, retires_ns=NOW + SECOND)}

    assert verified(TOKEN, retiring, NOW) == CLAIMS
    with pytest.raises(TokenInvalid):
        verified(TOKEN, retiring, NOW + SECOND)
