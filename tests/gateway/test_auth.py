"""Callers are who they say, for as long as they may be; failures cost only who fails."""

import contextlib
import logging
import sqlite3
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import TypeVar

import anyio.to_thread
import pytest

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
from onetape.gateway.auth import (
    BOOTSTRAP,
    Auth,
    AuthPolicy,
    Principal,
    is_loopback,
    network_of,
)
from onetape.gateway.keyring import KeyRing
from onetape.gateway.keys import FILE_NAME, KeyStore, NewKey, Scopes
from onetape.model import AssetClass, Topic
from onetape.testing import ManualClock

PEER = "192.0.2.1"
OTHER = "192.0.2.2"
BOOT = "a bootstrap secret for tests only"
SECOND = 1_000_000_000

DEFAULTS = AuthPolicy()

T = TypeVar("T")


class House:
    """An `Auth` on a store of its own, and the command line beside it."""

    def __init__(self, state_dir: Path, ring: KeyRing, clock: ManualClock, auth: Auth) -> None:
        self._state_dir = state_dir
        self.ring = ring
        self.clock = clock
        self.auth = auth

    async def cli(self, work: Callable[[KeyStore], T]) -> T:
        def run() -> T:
            with KeyStore(self._state_dir) as store:
                return work(store)

        result = await anyio.to_thread.run_sync(run)
        await self.ring.refresh()
        return result

    async def key(self, name: str = "bot", scopes: Scopes | None = None) -> NewKey:
        return await self.cli(
            lambda store: store.create(name, now_ns=self.clock.now_ns(), scopes=scopes)
        )

    def token(self, credential: str) -> str:
        return self.auth.mint(self.auth.identify_minter(credential, peer=PEER)).token

    def fails(self, credential: str | None, peer: str = PEER) -> type[OnetapeError] | None:
        try:
            self.auth.identify(credential, peer=peer)
        except OnetapeError as error:
            return type(error)
        return None


@contextlib.asynccontextmanager
async def house(
    tmp_path: Path, *, bootstrap: str | None = BOOT, policy: AuthPolicy = DEFAULTS
) -> AsyncGenerator[House]:
    clock = ManualClock()
    async with KeyRing(tmp_path, clock=clock) as ring:
        yield House(
            tmp_path, ring, clock, Auth(ring, clock=clock, bootstrap=bootstrap, policy=policy)
        )


async def test_a_client_key_is_known_by_its_public_id(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        key = await home.key()

        principal = home.auth.identify(key.secret, peer=PEER)

        assert (principal.key_id, principal.name, principal.kind) == (
            key.record.key_id,
            "bot",
            "client_key",
        )
        assert principal.expires_ns is None
        assert home.auth.valid(principal, home.clock.now_ns())
        assert home.auth.identify(key.secret, peer=PEER) == principal, "from memory, the same"


async def test_a_token_opens_what_its_key_opens(tmp_path: Path) -> None:
    """R35: one verification for REST and WebSocket."""
    async with house(tmp_path) as home:
        scopes = Scopes(assets=frozenset({AssetClass.OPTIONS}), rest=("/v3",), topics=("Q.O:SPY*",))
        key = await home.key(scopes=scopes)

        minted = home.auth.mint(home.auth.identify(key.secret, peer=PEER))
        principal = home.auth.identify(minted.token, peer=OTHER)

        assert (principal.key_id, principal.kind) == (key.record.key_id, "token")
        assert (principal.token_id, principal.expires_ns) == (minted.token_id, minted.expires_ns)
        assert minted.expires_in_s == 300
        assert principal.admits_asset(AssetClass.OPTIONS)
        assert not principal.admits_asset(AssetClass.STOCKS)
        assert principal.admits_path("/v3/trades/O:SPY251219C00650000")
        assert not principal.admits_path("/v2/aggs")
        assert principal.admits_topic(Topic("Q.O:SPY251219C00650000"))
        assert not principal.admits_topic(Topic("Q.*"))


async def test_a_token_ends_at_its_time_even_if_remembered(tmp_path: Path) -> None:
    """R33, R35: an expired token fails everywhere."""
    async with house(tmp_path) as home:
        token = home.token((await home.key()).secret)
        principal = home.auth.identify(token, peer=PEER)

        home.clock.advance(299.999)
        assert home.fails(token) is None
        home.clock.advance(0.001)

        assert home.fails(token) is TokenExpired
        assert not home.auth.valid(principal, home.clock.now_ns())
        assert home.auth.why_not(principal) is None, "expiry is the session's own to judge"


async def test_revoking_a_key_revokes_its_tokens_and_tells_who_listens(tmp_path: Path) -> None:
    """W-12: revocation reaches what is open."""
    async with house(tmp_path) as home:
        key = await home.key()
        token = home.token(key.secret)
        principals = [home.auth.identify(c, peer=PEER) for c in (key.secret, token)]
        bad: list[Principal] = []
        home.auth.on_change(lambda: bad.extend(p for p in principals if home.auth.why_not(p)))

        await home.cli(lambda store: store.revoke("bot", now_ns=1))

        assert bad == principals
        assert home.fails(key.secret) is home.fails(token) is TokenRevoked
        with pytest.raises(TokenRevoked):
            home.auth.mint(principals[0])


async def test_a_revoked_token_leaves_its_key_and_siblings_alone(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        key = await home.key()
        token, sibling = home.token(key.secret), home.token(key.secret)
        principal = home.auth.identify(token, peer=PEER)

        assert await home.auth.revoke_token(principal) == principal.token_id

        assert home.fails(token) is TokenRevoked
        assert home.fails(sibling) is home.fails(key.secret) is None
        assert home.auth.statistics().tokens_revoked == 1


async def test_only_a_token_is_revoked_by_its_bearer(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        key = await home.key()

        with pytest.raises(InvalidRequest, match="keys revoke"):
            await home.auth.revoke_token(home.auth.identify(key.secret, peer=PEER))


async def test_a_token_renews_itself_for_the_same_key_until_the_key_is_due(tmp_path: Path) -> None:
    async with house(tmp_path, policy=AuthPolicy(renewal_s=600)) as home:
        key = await home.key()
        first = home.token(key.secret)
        home.clock.advance(290)
        second = home.token(first)
        home.clock.advance(290)
        third = home.token(second)

        assert home.auth.identify(third, peer=PEER).key_id == key.record.key_id
        home.clock.advance(20)
        with pytest.raises(TokenExpired, match="show the key"):
            home.token(third)
        assert home.fails(third) is None, "it still lives out its time"
        assert home.auth.statistics().minted == {"client_key": 1, "token": 2}


async def test_an_expired_principal_mints_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        principal = home.auth.identify(home.token((await home.key()).secret), peer=PEER)
        home.clock.advance(300)

        with pytest.raises(TokenExpired):
            home.auth.mint(principal)


async def test_minting_is_audited_without_the_token(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """W-05, W-14."""
    with caplog.at_level(logging.INFO):
        async with house(tmp_path) as home:
            key = await home.key()
            token = home.token(key.secret)

    (line,) = [record for record in caplog.records if record.message == "token.minted"]
    assert vars(line)["key_id"] == key.record.key_id
    for secret in (token, key.secret):
        assert secret not in str([vars(record) for record in caplog.records])


async def test_tokens_outlive_a_rotation_of_the_signing_key(tmp_path: Path) -> None:
    """W-07."""
    async with house(tmp_path) as home:
        key = await home.key()
        old = home.token(key.secret)

        await home.cli(
            lambda store: store.rotate_signing_key(
                now_ns=home.clock.now_ns(), overlap_ns=301 * SECOND
            )
        )
        new = home.token(key.secret)

        assert home.fails(old) is home.fails(new) is None
        assert old.split(".")[0] != new.split(".")[0]


async def test_tokens_end_with_a_leaked_signing_key(tmp_path: Path) -> None:
    """W-07."""
    async with house(tmp_path) as home:
        token = home.token((await home.key()).secret)
        assert home.fails(token) is None

        await home.cli(
            lambda store: store.rotate_signing_key(now_ns=home.clock.now_ns(), overlap_ns=0)
        )

        assert home.fails(token) is TokenInvalid


async def test_without_a_signing_key_nothing_is_minted(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        key = await home.key()

        def empty(store: KeyStore) -> None:
            store.close()
            with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
                database.execute("DELETE FROM signing_keys")
                database.commit()

        await home.cli(empty)

        with pytest.raises(ConfigInvalid, match="signing key"):
            home.token(key.secret)


# the bootstrap secret


async def test_the_bootstrap_secret_mints_but_opens_nothing_itself(tmp_path: Path) -> None:
    """R18, C2: a bootstrap credential, off as a static token unless asked for."""
    async with house(tmp_path) as home:
        token = home.token(BOOT)

        assert home.auth.identify(token, peer=PEER).key_id == BOOTSTRAP
        assert home.fails(BOOT) is NotEntitled
        assert home.auth.statistics().static_token_uses == 0


async def test_static_mode_takes_it_counts_it_and_warns_once_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """R37: both modes; the counter increments."""
    async with house(tmp_path, policy=AuthPolicy(allow_static_token=True)) as home:
        for _ in range(3):
            assert home.auth.identify(BOOT, peer=PEER).kind == "bootstrap"
        home.clock.advance(60)
        home.auth.identify(BOOT, peer=PEER)

        assert home.auth.statistics().static_token_uses == 4
    warnings = [r for r in caplog.records if r.message == "auth.static_token_deprecated"]
    assert [vars(warning)["uses"] for warning in warnings] == [1, 4]


@pytest.mark.parametrize("wrong", [BOOT[:-1] + "x", BOOT[:-1], BOOT + "x", "x"])
async def test_a_wrong_bootstrap_secret_of_any_length_is_invalid(
    tmp_path: Path, wrong: str
) -> None:
    """R18: equal and unequal lengths are refused alike."""
    async with house(tmp_path) as home:
        with pytest.raises(TokenInvalid):
            home.auth.identify_minter(wrong, peer=PEER)


async def test_tokens_of_a_bootstrap_secret_end_when_it_is_taken_away(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        token = home.token(BOOT)
    async with house(tmp_path, bootstrap=None) as home:
        assert home.fails(token) is TokenRevoked
        assert home.fails(BOOT) is TokenInvalid


# scopes by peer


async def test_a_loopback_key_is_refused_from_elsewhere_and_so_are_its_tokens(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as home:
        key = await home.key(scopes=Scopes(loopback_only=True))
        token = home.auth.mint(home.auth.identify(key.secret, peer="127.0.0.1")).token

        for credential in (key.secret, token):
            assert home.fails(credential, "::1") is None
            assert home.fails(credential, PEER) is NotEntitled


@pytest.mark.parametrize(
    ("peer", "loopback", "network"),
    [
        ("127.0.0.1", True, "127.0.0.1"),
        ("127.8.9.1", True, "127.8.9.1"),
        ("::1", True, "::/64"),
        ("::ffff:127.0.0.1", True, "127.0.0.1"),
        ("10.0.0.1", False, "10.0.0.1"),
        ("2001:db8::1", False, "2001:db8::/64"),
        ("localhost", False, "localhost"),
        ("", False, ""),
    ],
)
def test_peers_are_told_apart(peer: str, loopback: bool, network: str) -> None:
    assert is_loopback(peer) is loopback
    assert network_of(peer) == network


# failures


async def test_a_missing_credential_is_no_guess(tmp_path: Path) -> None:
    async with house(tmp_path, policy=AuthPolicy(failures_per_minute=2)) as home:
        for credential in (None, "") * 3:
            assert home.fails(credential) is TokenMissing
        assert home.auth.statistics().failures == {"token_missing": 6}


async def test_a_guessing_peer_is_throttled_and_told_for_how_long(tmp_path: Path) -> None:
    async with house(tmp_path, policy=AuthPolicy(failures_per_minute=3)) as home:
        assert [home.fails(f"guess {n}") for n in range(3)] == [TokenInvalid] * 3

        with pytest.raises(Throttled) as caught:
            home.auth.identify("guess 4", peer=PEER)

        assert 0 < (caught.value.retry_after_s or 0) <= 60
        assert home.fails("guess 5", OTHER) is TokenInvalid, "others are not"
        home.clock.advance(61)
        assert home.fails("guess 6") is TokenInvalid
        assert home.auth.statistics().failures == {"token_invalid": 5, "throttled": 1}


async def test_a_guessing_peer_does_not_hit_the_bootstrap_secret_by_luck(tmp_path: Path) -> None:
    async with house(tmp_path, policy=AuthPolicy(failures_per_minute=3)) as home:
        for n in range(4):
            home.fails(f"guess {n}")

        with pytest.raises(Throttled):
            home.auth.identify_minter(BOOT, peer=PEER)
        assert home.auth.identify_minter(BOOT, peer=OTHER).key_id == BOOTSTRAP
        home.clock.advance(61)
        assert home.auth.identify_minter(BOOT, peer=PEER).key_id == BOOTSTRAP


async def test_good_keys_and_tokens_are_never_slowed_by_failures(tmp_path: Path) -> None:
    """One consumer can never hurt another, even from one address."""
    async with house(tmp_path, policy=AuthPolicy(failures_per_minute=1)) as home:
        key = await home.key()
        token = home.token(key.secret)
        for n in range(9):
            home.fails(f"guess {n}")

        assert home.fails(key.secret) is home.fails(token) is None


async def test_a_program_left_with_an_old_secret_bars_nobody_beside_it(tmp_path: Path) -> None:
    async with house(tmp_path, policy=AuthPolicy(failures_per_minute=3)) as home:
        seen = [home.fails("the old secret") for _ in range(9)]

        assert seen == [TokenInvalid] * 4 + [Throttled] * 5
        assert home.auth.identify_minter(BOOT, peer=PEER).key_id == BOOTSTRAP


async def test_a_program_that_repeats_a_dead_token_is_throttled_by_itself(tmp_path: Path) -> None:
    async with house(tmp_path, policy=AuthPolicy(failures_per_minute=3)) as home:
        key = await home.key()
        token = home.token(key.secret)
        home.clock.advance(300)

        assert [home.fails(token) for _ in range(5)] == [TokenExpired] * 3 + [Throttled] * 2
        assert home.fails(key.secret) is None


async def test_the_first_throttled_guess_is_logged_and_not_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with house(tmp_path, policy=AuthPolicy(failures_per_minute=1)) as home:
        for n in range(5):
            home.fails(f"guess {n}")

    assert [record.message for record in caplog.records] == ["auth.peer_throttled"]


async def test_memory_of_credentials_is_bounded(tmp_path: Path) -> None:
    async with house(tmp_path, policy=AuthPolicy(max_verified=2)) as home:
        key = await home.key()
        credentials = [home.token(key.secret) for _ in range(4)]
        for credential in credentials:
            home.auth.identify(credential, peer=PEER)

        assert home.auth.statistics().verified == 2
        assert home.fails(credentials[0]) is None


async def test_no_other_spelling_of_a_credential_is_good(tmp_path: Path) -> None:
    async with house(tmp_path, policy=AuthPolicy(failures_per_minute=10_000)) as home:
        key = await home.key()
        for credential in (key.secret, home.token(key.secret), BOOT):
            raw = credential.encode()
            for at in range(len(raw) * 8):
                flipped = bytearray(raw)
                flipped[at // 8] ^= 1 << at % 8
                assert home.fails(flipped.decode("latin-1")) is TokenInvalid, at


async def test_time_may_be_given(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        token = home.token((await home.key()).secret)
        later = home.clock.now_ns() + 300 * SECOND

        with pytest.raises(TokenExpired):
            home.auth.identify(token, peer=PEER, now_ns=later, now=0.0)
