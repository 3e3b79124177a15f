"""Who is calling, and may they: client keys, the tokens minted from them, and their end.

    bootstrap secret ──┐
    client key ────────┼─ mint ─▶ token, 5 min ─ mint again (renewal) ─▶ token …
                       │            │
                       └────────────┴─ identify ─▶ Principal ─ revoked or expired ─▶ why_not

A token is a JWT (HS256) signed with a secret of our own. It carries its key's id and no
scopes, so that what becomes of the key becomes of its tokens. The bootstrap secret
mints; on data routes it is taken only in static mode, which is deprecated.

Failures are limited per peer. A peer that guesses is told `throttled`, and the
bootstrap secret, which a person may have chosen, is not compared with more guesses;
its keys and tokens, which nobody guesses, go on working. The same wrong credential
again is no new guess: a program left with an old secret bars nobody beside it.
"""

import hmac
import ipaddress
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, NoReturn

import msgspec

from onetape.clock import Clock
from onetape.core.limits import SlidingWindow
from onetape.errors import (
    ConfigInvalid,
    InvalidRequest,
    NotEntitled,
    OnetapeError,
    Throttled,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    TokenRevoked,
)
from onetape.gateway import tokens
from onetape.gateway.keyring import KeyRing
from onetape.gateway.keys import SECRET_PATTERN, Scopes, digest_of
from onetape.model import AssetClass, Topic

BOOTSTRAP: Final = "bootstrap"
"""The key id under which the bootstrap secret and its tokens appear."""

_NS: Final = 1_000_000_000
_MINUTE_S: Final = 60.0
_NO_HASH: Final = bytes(32)

_log: Final = logging.getLogger(__name__)

Kind = Literal["client_key", "token", "bootstrap"]


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who a credential turned out to be, and what they may do."""

    key_id: str
    name: str
    kind: Kind
    scopes: Scopes
    token_id: str | None = None
    issued_ns: int | None = None
    expires_ns: int | None = None
    authenticated_ns: int | None = None  # when a key, not a token, was last shown

    def admits_asset(self, asset: AssetClass) -> bool:
        """Whether sockets of this asset class are covered."""
        return self.scopes.admits_asset(asset)

    def admits_path(self, path: str) -> bool:
        """Whether this decoded REST path is covered."""
        return self.scopes.admits_path(path)

    def admits_topic(self, topic: Topic) -> bool:
        """Whether this topic, in its canonical form, is covered."""
        return self.scopes.admits_topic(topic)


class Minted(NamedTuple):
    """A token just made. `expires_in_s` is a lower bound: measure it on your own clock."""

    token: str
    token_id: str
    expires_ns: int
    expires_in_s: int


class AuthPolicy(NamedTuple):
    """How long tokens live and how many failures a peer may have."""

    token_ttl_s: int = 300
    renewal_s: int = 86_400  # for so long a token may renew itself; then the key is asked for
    allow_static_token: bool = False
    failures_per_minute: int = 30
    max_verified: int = 4_096  # credentials remembered, the least recently used leaving


class AuthStatistics(NamedTuple):
    """A snapshot for metrics."""

    minted: Mapping[str, int]  # by kind of the credential shown
    failures: Mapping[str, int]  # by code
    static_token_uses: int
    tokens_revoked: int
    verified: int


class _Guesses:
    """Failures per peer, and per credential that failed before."""

    def __init__(self, per_minute: int, max_remembered: int) -> None:
        self._window = SlidingWindow(per_minute, _MINUTE_S)
        self._max_remembered = max_remembered
        self._refused: OrderedDict[bytes, None] = OrderedDict()
        self._barred: OrderedDict[str, float] = OrderedDict()  # guessing networks, until when

    def is_barred(self, peer: str, now: float) -> bool:
        """Whether the peer may not have a guess compared now."""
        return bool(self._barred) and self._barred.get(network_of(peer), now) > now

    def judge(self, error: OnetapeError, digest: bytes, peer: str, now: float) -> OnetapeError:
        """Count a failure; return the error, or `Throttled` when there were too many."""
        network = network_of(peer)
        is_guess = isinstance(error, TokenInvalid) and digest not in self._refused
        _remember(self._refused, digest, None, self._max_remembered)
        verdict = self._window.admit(network if is_guess else f"{network} {digest.hex()}", now)
        if verdict.admitted:
            return error
        if is_guess:
            if not self.is_barred(peer, now):
                _log.warning("auth.peer_throttled", extra={"peer": peer})
            _remember(self._barred, network, now + verdict.retry_after_s, 1_024)
        return Throttled("too many failed logins", retry_after_s=verdict.retry_after_s)

    def forget_credentials(self) -> None:
        """The keys changed: what was refused may be good now."""
        self._refused.clear()


class Auth:
    """Identifies callers and mints their tokens. Nothing here waits but `revoke_token`."""

    def __init__(
        self,
        ring: KeyRing,
        *,
        clock: Clock,
        bootstrap: str | None = None,
        policy: AuthPolicy = AuthPolicy(),  # noqa: B008 - immutable
    ) -> None:
        self._ring = ring
        self._clock = clock
        self._policy = policy
        # Hashed at once: comparing digests tells neither content nor length.
        self._bootstrap = digest_of(bootstrap) if bootstrap else None
        self._verified: OrderedDict[bytes, Principal] = OrderedDict()
        self._guesses = _Guesses(policy.failures_per_minute, policy.max_verified)
        self._failed: Counter[str] = Counter()
        self._minted: Counter[str] = Counter()
        self._static_uses = 0
        self._static_warning_at = -_MINUTE_S
        self._tokens_revoked = 0
        self._listeners: list[Callable[[], None]] = []
        ring.on_change(self._changed)

    # identifying

    def identify(
        self,
        credential: str | None,
        *,
        peer: str,
        now_ns: int | None = None,
        now: float | None = None,
    ) -> Principal:
        """Say who calls a data route. A credential seen before costs a hash and a lookup.

        Raises:
            Unauthorized: the credential is missing, invalid, expired or revoked.
            NotEntitled: it is good, but not from this peer or not on this route.
            Throttled: this peer fails too often.
        """
        if not credential:
            self._fail(TokenMissing("no credential came with the request"))
        digest = digest_of(credential)
        if now_ns is None:
            now_ns = self._clock.now_ns()
        principal = self._verified.get(digest)
        if principal is None or (
            principal.expires_ns is not None and principal.expires_ns <= now_ns
        ):
            principal = self._examine(credential, digest, peer, now_ns, now)
        else:
            self._verified.move_to_end(digest)
        if principal.kind == "bootstrap":
            self._check_static(now)
        elif principal.scopes.loopback_only and not is_loopback(peer):
            self._fail(NotEntitled("this key is good on the gateway's own host only"))
        self._ring.note_use(principal.key_id, now_ns)
        return principal

    def identify_minter(
        self,
        credential: str | None,
        *,
        peer: str,
        now_ns: int | None = None,
        now: float | None = None,
    ) -> Principal:
        """Say who asks for a token: as `identify`, but the bootstrap secret is welcome."""
        if credential and self._is_bootstrap(digest_of(credential), peer, now):
            return _BOOTSTRAP_PRINCIPAL
        return self.identify(credential, peer=peer, now_ns=now_ns, now=now)

    def why_not(self, principal: Principal) -> OnetapeError | None:
        """Say why a principal is good no more, but for its expiry; None if it is good."""
        snapshot = self._ring.snapshot
        if principal.key_id == BOOTSTRAP:
            if self._bootstrap is None:
                return TokenRevoked("the bootstrap secret was taken away")
        elif not snapshot.is_live(principal.key_id):
            return TokenRevoked("the key was revoked")
        if principal.token_id is not None and principal.token_id in snapshot.revoked_tokens:
            return TokenRevoked("the token was revoked")
        return None

    def valid(self, principal: Principal, now_ns: int) -> bool:
        """Whether a principal is neither revoked nor expired."""
        expires_ns = principal.expires_ns
        return (expires_ns is None or now_ns < expires_ns) and self.why_not(principal) is None

    # tokens

    def mint(self, principal: Principal, *, now_ns: int | None = None) -> Minted:
        """Make a token for the principal's key; one token renews itself for a day.

        Raises:
            Unauthorized: the principal is good no more, or its key must be shown again.
        """
        now_ns = self._clock.now_ns() if now_ns is None else now_ns
        self._check_minter(principal, now_ns)
        signer = self._ring.snapshot.signer
        if signer is None:
            raise ConfigInvalid("ONETAPE_STATE_DIR: the key store holds no signing key")
        claims = tokens.new_claims(
            principal.key_id,
            now_ns=now_ns,
            ttl_s=self._policy.token_ttl_s,
            authenticated_ns=principal.authenticated_ns,
        )
        token = tokens.sign(claims, signer)
        self._minted[principal.kind] += 1
        _log.info(
            "token.minted",
            extra={"key_id": claims.sub, "token_id": claims.jti, "by": principal.kind},
        )
        return Minted(token, claims.jti, claims.expires_ns, self._policy.token_ttl_s)

    async def revoke_token(self, principal: Principal) -> str:
        """Revoke the token this principal came with; return the token's id.

        Raises:
            InvalidRequest: it came with a key.
        """
        if principal.token_id is None or principal.expires_ns is None:
            raise InvalidRequest("only a token is revoked here; a key with `onetape keys revoke`")
        await self._ring.revoke_token(principal.token_id, expires_ns=principal.expires_ns)
        self._tokens_revoked += 1
        _log.info(
            "token.revoked", extra={"key_id": principal.key_id, "token_id": principal.token_id}
        )
        return principal.token_id

    # following

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call the listener when keys or tokens changed: ask `why_not` of everybody again."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Follow changes made by other processes until cancelled."""
        await self._ring.run()

    def statistics(self) -> AuthStatistics:
        """Count everything."""
        return AuthStatistics(
            minted=dict(self._minted),
            failures=dict(self._failed),
            static_token_uses=self._static_uses,
            tokens_revoked=self._tokens_revoked,
            verified=len(self._verified),
        )

    # private

    def _changed(self) -> None:
        self._verified.clear()
        self._guesses.forget_credentials()
        for listener in self._listeners:
            listener()

    def _examine(
        self, credential: str, digest: bytes, peer: str, now_ns: int, now: float | None
    ) -> Principal:
        self._verified.pop(digest, None)
        if self._is_bootstrap(digest, peer, now):
            return _BOOTSTRAP_PRINCIPAL
        try:
            principal = self._read(credential, digest, now_ns)
        except OnetapeError as error:
            now = self._clock.monotonic() if now is None else now
            self._fail(self._guesses.judge(error, digest, peer, now))
        _remember(self._verified, digest, principal, self._policy.max_verified)
        return principal

    def _read(self, credential: str, digest: bytes, now_ns: int) -> Principal:
        key = SECRET_PATTERN.fullmatch(credential)
        if key is not None:
            return self._read_key(key[1], digest)
        return self._read_token(credential, now_ns)

    def _read_key(self, key_id: str, digest: bytes) -> Principal:
        snapshot = self._ring.snapshot
        # An unknown id costs the same comparison as a known one.
        if not hmac.compare_digest(snapshot.hashes.get(key_id, _NO_HASH), digest):
            raise TokenInvalid("there is no such key")
        record = snapshot.keys[key_id]
        principal = Principal(
            key_id=key_id, name=record.name, kind="client_key", scopes=record.scopes
        )
        self._check_live(principal)
        return principal

    def _read_token(self, token: str, now_ns: int) -> Principal:
        claims = tokens.verified(token, self._ring.snapshot.signing_keys, now_ns)
        record = self._ring.snapshot.keys.get(claims.sub)
        principal = Principal(
            key_id=claims.sub,
            name=BOOTSTRAP if record is None else record.name,
            kind="token",
            scopes=Scopes() if record is None else record.scopes,
            token_id=claims.jti,
            issued_ns=claims.iat * _NS,
            expires_ns=claims.expires_ns,
            authenticated_ns=claims.auth_time * _NS,
        )
        self._check_live(principal)
        if claims.expires_ns <= now_ns:
            raise TokenExpired("the token ran out; mint another")
        return principal

    def _check_live(self, principal: Principal) -> None:
        error = self.why_not(principal)
        if error is not None:
            raise error

    def _check_minter(self, principal: Principal, now_ns: int) -> None:
        self._check_live(principal)
        if principal.expires_ns is not None and principal.expires_ns <= now_ns:
            raise TokenExpired("the token ran out; show the key")
        shown_ns = principal.authenticated_ns
        if shown_ns is not None and now_ns - shown_ns >= self._policy.renewal_s * _NS:
            raise TokenExpired("the token has renewed itself long enough; show the key")

    def _is_bootstrap(self, digest: bytes, peer: str, now: float | None) -> bool:
        if self._bootstrap is None:
            return False
        if self._guesses.is_barred(peer, self._clock.monotonic() if now is None else now):
            return False
        return hmac.compare_digest(digest, self._bootstrap)

    def _check_static(self, now: float | None) -> None:
        if not self._policy.allow_static_token:
            self._fail(NotEntitled("the bootstrap secret only mints tokens, at POST /api/ws-token"))
        self._static_uses += 1
        now = self._clock.monotonic() if now is None else now
        if now - self._static_warning_at >= _MINUTE_S:
            self._static_warning_at = now
            _log.warning("auth.static_token_deprecated", extra={"uses": self._static_uses})

    def _fail(self, error: OnetapeError) -> NoReturn:
        self._failed[error.code] += 1
        raise error


def _remember(table: OrderedDict[Any, Any], key: object, value: object, limit: int) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > limit:
        table.popitem(last=False)


_BOOTSTRAP_PRINCIPAL: Final = Principal(
    key_id=BOOTSTRAP, name=BOOTSTRAP, kind="bootstrap", scopes=Scopes()
)


@lru_cache(maxsize=1_024)
def is_loopback(peer: str) -> bool:
    """Whether the peer's address is of this host; what is no address is not."""
    address = _address(peer)
    return address is not None and address.is_loopback


@lru_cache(maxsize=1_024)
def network_of(peer: str) -> str:
    """Return what one guesser commands: an IPv4 address, or a /64 of IPv6."""
    address = _address(peer)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
    return peer if address is None else str(address)


def _address(peer: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
