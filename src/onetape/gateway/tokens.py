"""What travels instead of a key: a JWT of five minutes, signed with a secret of our own.

It names its key (`sub`) and no scopes, itself (`jti`), the key that signed it (`kid`),
when it was made and ends, and when a key was last shown for it (`auth_time`), which
renewals pass on. Sans-I/O: the signing keys and the time come in as arguments.
"""

import re
import secrets
from collections.abc import Mapping
from typing import Any, Final

import jwt
import msgspec

from onetape.errors import TokenInvalid
from onetape.gateway.keys import SigningKey

AUDIENCE: Final = "onetape"
ISSUER: Final = "onetape"

_NS: Final = 1_000_000_000
_ALGORITHMS: Final = ["HS256"]
# Ours are some 300 characters; the bound keeps a stranger's JSON shallow. PyJWT takes
# padding, we do not: a token has one spelling.
_SHAPE: Final = re.compile(r"[A-Za-z0-9_-]{10,200}\.[A-Za-z0-9_-]{10,500}\.[A-Za-z0-9_-]{43}")

# Times are checked against the clock we are given, not by the library. `Any`: the
# library's annotations name types of a package that HS256 does not need.
_jwt: Final[Any] = jwt.PyJWT(
    options={
        "verify_exp": False,
        "verify_iat": False,
        "verify_nbf": False,
        "require": ["iss", "aud", "sub", "jti", "iat", "exp", "auth_time"],
        "strict_aud": True,
        "enforce_minimum_key_length": True,
    }
)


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a token says; times in whole seconds, as JWT has them."""

    iss: str
    aud: str
    sub: str
    jti: str
    iat: int
    exp: int
    auth_time: int

    @property
    def expires_ns(self) -> int:
        """The first moment at which it is good no more."""
        return self.exp * _NS


def new_claims(key_id: str, *, now_ns: int, ttl_s: int, authenticated_ns: int | None) -> Claims:
    """Describe a token made now, good for at least `ttl_s` and under a second more."""
    shown_ns = now_ns if authenticated_ns is None else authenticated_ns
    return Claims(
        iss=ISSUER,
        aud=AUDIENCE,
        sub=key_id,
        jti=secrets.token_urlsafe(12),
        iat=now_ns // _NS,
        exp=-(-now_ns // _NS) + ttl_s,
        auth_time=shown_ns // _NS,
    )


def sign(claims: Claims, key: SigningKey) -> str:
    """Make the token."""
    token: str = _jwt.encode(
        msgspec.to_builtins(claims), key.secret, "HS256", headers={"kid": key.kid}
    )
    return token


def looks_like_token(credential: str) -> bool:
    """Whether it is worth verifying."""
    return _SHAPE.fullmatch(credential) is not None


def verified(token: str, keys: Mapping[str, SigningKey], now_ns: int) -> Claims:
    """Read a token that one of the keys signed. Whether it ran out is for the caller.

    Raises:
        TokenInvalid: none of them did, or it is not a token.
    """
    if not looks_like_token(token):
        raise TokenInvalid("the credential is neither a key nor a token of this gateway")
    try:
        kid: Any = jwt.get_unverified_header(token).get("kid")
        key = keys.get(kid) if isinstance(kid, str) else None
        if key is None or not key.verifies(now_ns):
            raise TokenInvalid("the token is not signed by this gateway")
        claims = _jwt.decode(
            token, key.secret, algorithms=_ALGORITHMS, audience=AUDIENCE, issuer=ISSUER
        )
        return msgspec.convert(claims, Claims)
    except (jwt.PyJWTError, msgspec.ValidationError, ValueError, RecursionError) as error:
        raise TokenInvalid("the token is not signed by this gateway") from error
