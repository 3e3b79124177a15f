"""The key store keeps hashes, never secrets, and tells processes apart from their changes."""

import sqlite3
import stat
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from onetape.errors import ConfigInvalid, InvalidRequest, NotFound
from onetape.gateway.keys import (
    FILE_NAME,
    SECRET_PATTERN,
    KeyStore,
    Scopes,
    SigningKey,
    digest_of,
)
from onetape.model import AssetClass

NOW = 1_764_000_000_000_000_000
MINUTE = 60_000_000_000


@pytest.fixture
def store(tmp_path: Path):
    with KeyStore(tmp_path / "state") as opened:
        yield opened


def test_a_secret_finds_its_key_and_is_kept_only_as_a_hash(store: KeyStore, tmp_path: Path) -> None:
    """R16, W-14: no value, prefix or length of a secret is stored or shown."""
    new = store.create("bot", now_ns=NOW)

    match = SECRET_PATTERN.fullmatch(new.secret)
    assert match is not None
    assert match[1] == new.record.key_id
    assert store.snapshot().hashes == {new.record.key_id: digest_of(new.secret)}
    store.close()
    for file in (tmp_path / "state").iterdir():
        assert new.secret.encode() not in file.read_bytes()
        assert new.secret.rpartition("_")[2].encode() not in file.read_bytes()


def test_nothing_that_holds_a_secret_shows_it(store: KeyStore) -> None:
    """W-14."""
    new = store.create("bot", now_ns=NOW)
    signing = SigningKey(kid="k", secret=b"canary", created_ns=NOW)
    store.rotate_signing_key(now_ns=NOW, overlap_ns=0)

    assert new.secret not in repr(new)
    assert "canary" not in repr(signing)
    assert repr(store.snapshot()) == "Snapshot(keys=1, revoked_tokens=0)"


def test_directory_and_files_are_the_owners_alone(store: KeyStore, tmp_path: Path) -> None:
    store.create("bot", now_ns=NOW)

    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    for file in (tmp_path / "state").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).touch(0o644)

    KeyStore(tmp_path).close()

    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600


def test_an_existing_directory_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)

    KeyStore(tmp_path).close()

    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_keys_survive_a_restart(tmp_path: Path) -> None:
    scopes = Scopes(
        assets=frozenset({AssetClass.OPTIONS}),
        rest=("/v3/snapshot",),
        topics=("Q.O:SPY*",),
        rate_per_minute=60,
        loopback_only=True,
    )
    with KeyStore(tmp_path) as store:
        made = store.create("bot", now_ns=NOW, scopes=scopes).record

    with KeyStore(tmp_path) as store:
        assert store.records() == [made]
        assert store.snapshot().keys[made.key_id].scopes == scopes


def test_a_name_is_taken_until_its_key_is_revoked(store: KeyStore) -> None:
    store.create("bot", now_ns=NOW)
    with pytest.raises(InvalidRequest, match="already"):
        store.create("bot", now_ns=NOW)

    store.revoke("bot", now_ns=NOW + 1)
    store.create("bot", now_ns=NOW + 2)

    assert [(key.name, key.revoked_ns) for key in store.records()] == [
        ("bot", NOW + 1),
        ("bot", None),
    ]


def test_a_key_is_revoked_by_name_or_by_id_once(store: KeyStore) -> None:
    one = store.create("one", now_ns=NOW).record
    store.create("two", now_ns=NOW)

    assert store.revoke(one.key_id, now_ns=NOW + 5).revoked_ns == NOW + 5
    store.revoke("two", now_ns=NOW + 5)

    assert not store.snapshot().is_live(one.key_id)
    with pytest.raises(NotFound):
        store.revoke("one", now_ns=NOW + 6)


@pytest.mark.parametrize("name", ["", "a b", "-x", "x" * 65, "naïve", "a\n", "../x"])
def test_a_malformed_name_is_refused(store: KeyStore, name: str) -> None:
    with pytest.raises(InvalidRequest, match="name"):
        store.create(name, now_ns=NOW)


@pytest.mark.parametrize(
    "scopes",
    [
        Scopes(topics=("Q.O:SPY[A-Z]",)),
        Scopes(topics=("T.SPY?",)),
        Scopes(topics=("",)),
        Scopes(rest=("v3/snapshot",)),
        Scopes(rest=("/v3/%2e",)),
        Scopes(rate_per_minute=0),
    ],
    ids=["bracket", "question mark", "empty", "relative", "encoded", "no rate"],
)
def test_a_malformed_scope_is_refused(store: KeyStore, scopes: Scopes) -> None:
    with pytest.raises(InvalidRequest):
        store.create("bot", now_ns=NOW, scopes=scopes)
    assert store.records() == []


def test_the_last_use_only_moves_forward(store: KeyStore) -> None:
    key = store.create("bot", now_ns=NOW).record

    store.touch({key.key_id: NOW + 9, "gone": NOW})
    store.touch({key.key_id: NOW + 3})

    assert store.records()[0].last_used_ns == NOW + 9


def test_an_old_signing_key_verifies_until_the_overlap_is_over(store: KeyStore) -> None:
    """W-07: rotation with overlap."""
    old = store.rotate_signing_key(now_ns=NOW, overlap_ns=0)
    new = store.rotate_signing_key(now_ns=NOW, overlap_ns=6 * MINUTE)

    snapshot = store.snapshot()

    assert snapshot.signer is not None
    assert snapshot.signer.kid == new
    assert snapshot.signing_keys[old].verifies(NOW + 6 * MINUTE - 1)
    assert not snapshot.signing_keys[old].verifies(NOW + 6 * MINUTE)
    store.rotate_signing_key(now_ns=NOW + 7 * MINUTE, overlap_ns=6 * MINUTE)
    assert old not in store.snapshot().signing_keys


def test_a_later_rotation_never_lengthens_a_retirement(store: KeyStore) -> None:
    old = store.rotate_signing_key(now_ns=NOW, overlap_ns=0)
    store.rotate_signing_key(now_ns=NOW, overlap_ns=MINUTE)
    store.rotate_signing_key(now_ns=NOW, overlap_ns=60 * MINUTE)

    assert store.snapshot().signing_keys[old].retires_ns == NOW + MINUTE


def test_a_leaked_signing_key_can_be_ended_at_once(store: KeyStore) -> None:
    leaked = store.rotate_signing_key(now_ns=NOW, overlap_ns=0)

    store.rotate_signing_key(now_ns=NOW, overlap_ns=0)

    assert leaked not in store.snapshot().signing_keys


def test_the_first_signing_key_is_made_once(store: KeyStore) -> None:
    store.ensure_signing_key(now_ns=NOW)
    first = store.snapshot().signing_keys

    store.ensure_signing_key(now_ns=NOW + 1)

    assert len(first) == 1
    assert store.snapshot().signing_keys == first
    assert len(next(iter(first.values())).secret) == 32


def test_a_revoked_token_is_forgotten_when_it_would_have_ended(store: KeyStore) -> None:
    store.revoke_token("a", expires_ns=NOW + MINUTE, now_ns=NOW)
    store.revoke_token("b", expires_ns=NOW + 9 * MINUTE, now_ns=NOW + MINUTE)

    assert store.snapshot().revoked_tokens == {"b": NOW + 9 * MINUTE}


def test_the_version_changes_when_another_process_writes(store: KeyStore, tmp_path: Path) -> None:
    before = store.version()

    with KeyStore(tmp_path / "state") as other:
        assert store.version() == before, "reading is no change"
        other.create("bot", now_ns=NOW)

    assert store.version() != before


def test_a_failed_change_changes_nothing(store: KeyStore) -> None:
    store.create("bot", now_ns=NOW)
    with pytest.raises(OverflowError):
        store.revoke("bot", now_ns=1 << 70)

    assert store.records()[0].revoked_ns is None
    store.create("after", now_ns=NOW)


def test_a_state_directory_that_cannot_be_is_named_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigInvalid, match="ONETAPE_STATE_DIR"):
        KeyStore(tmp_path / "file" / "state")


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database, but long enough to be taken for one" * 9)

    with pytest.raises(ConfigInvalid, match="ONETAPE_STATE_DIR"):
        KeyStore(tmp_path)


def test_a_store_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    KeyStore(tmp_path).close()
    database = sqlite3.connect(tmp_path / FILE_NAME)
    database.execute("PRAGMA user_version = 99")
    database.close()

    with pytest.raises(ConfigInvalid, match="later version"):
        KeyStore(tmp_path)


def test_a_closed_store_says_so_and_closes_again(store: KeyStore) -> None:
    store.close()
    store.close()

    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        store.records()


def test_a_digest_is_taken_of_any_text() -> None:
    assert len(digest_of("\ud800 é \x00")) == 32


@pytest.mark.parametrize(
    ("pattern", "topic", "covered"),
    [
        ("*", "T.*", True),
        ("Q.O:SPY*", "Q.O:SPY251219C00650000", True),
        ("Q.O:SPY*", "T.O:SPY251219C00650000", False),
        ("Q.O:SPY*", "Q.*", False),  # would let everything in
        ("Q.*", "Q.*", True),
        ("*.O:SPY*", "A.O:SPY251219C00650000", True),
        ("*.O:SPY*C*", "A.O:SPY251219P00650000", False),
        ("V.I:SPX", "V.I:SPX", True),
        ("V.I:SPX", "V.I:SPXW", False),
        ("*SPX", "V.I:SPX", True),
        ("A*A", "A", False),  # the one A cannot be both ends
        ("A*BA*A", "ABA", False),
        ("A*B*C", "AxBxC", True),
        ("A*B*C", "AxC", False),
    ],
)
def test_a_pattern_covers_a_topic(pattern: str, topic: str, covered: bool) -> None:
    assert Scopes(topics=(pattern,)).admits_topic(topic) is covered


@given(
    pattern=st.text("AB*", max_size=8),
    topic=st.text("AB*", max_size=8),
    filling=st.lists(st.text("AB", max_size=3), min_size=8, max_size=8),
)
def test_whatever_a_covered_wildcard_stands_for_is_covered_too(
    pattern: str, topic: str, filling: list[str]
) -> None:
    if not Scopes(topics=(pattern,)).admits_topic(topic):
        return

    parts = topic.split("*")
    meant = parts[0] + "".join(f + p for f, p in zip(filling, parts[1:], strict=False))

    assert Scopes(topics=(pattern,)).admits_topic(meant)


@given(pattern=st.text("AB*", max_size=8), topic=st.text("AB", max_size=8))
def test_patterns_agree_with_a_naive_matcher(pattern: str, topic: str) -> None:
    def naive(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "*":
            return naive(pattern[1:], text) or bool(text and naive(pattern, text[1:]))
        return bool(text) and text[0] == pattern[0] and naive(pattern[1:], text[1:])

    assert Scopes(topics=(pattern,)).admits_topic(topic) is naive(pattern, topic)


@pytest.mark.parametrize(
    ("path", "admitted"),
    [
        ("/v3/snapshot", True),
        ("/v3/snapshot/options/SPY", True),
        ("/v3/snapshots", False),
        ("/v3/snapshot/../trades", False),
        ("/v3/snapshot//x", False),
        ("/v2/aggs/ticker/I:SPX/prev", True),
        ("/v2", False),
        ("", False),
    ],
)
def test_a_path_is_covered_by_whole_segments(path: str, admitted: bool) -> None:
    assert Scopes(rest=("/v3/snapshot", "/v2/aggs/")).admits_path(path) is admitted


def test_without_scopes_everything_is_admitted() -> None:
    scopes = Scopes()

    assert all(scopes.admits_asset(asset) for asset in AssetClass)
    assert scopes.admits_path("/v1/anything")
    assert scopes.admits_topic("T.*")
    assert not Scopes(assets=frozenset()).admits_asset(AssetClass.STOCKS)
