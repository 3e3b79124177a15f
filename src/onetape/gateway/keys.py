"""The key store: who may come in, kept in one SQLite file in the state directory.

A client secret reads `ot_<key id>_<43 random characters>`: the id finds the row in one
step, the prefix lets secret scanners find a leak, and only the SHA-256 of the whole is
kept. That is enough for a value of 256 random bits; a slow hash would only make every
login slow. Signing secrets are kept as they are, since they must sign: the file is
readable by its owner alone.

Everything here is synchronous and blocks: the command line uses it as it is, the gateway
through a `KeyRing`.

    signing key   active ──rotate──▶ retiring (verifies only) ──overlap over──▶ gone
"""

import hashlib
import os
import re
import secrets
import sqlite3
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Final, Literal, NamedTuple, Self, cast

import msgspec

from onetape.errors import ConfigInvalid, InvalidRequest, NotFound
from onetape.model import AssetClass

FILE_NAME: Final = "onetape.sqlite3"
SECRET_PATTERN: Final = re.compile(r"ot_([a-z2-7]{8})_[A-Za-z0-9_-]{43}")
"""What a client secret looks like, for us and for secret scanners."""

_SCHEMA_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS keys (
    key_id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    secret_sha256 BLOB NOT NULL,
    scopes TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    revoked_ns INTEGER,
    last_used_ns INTEGER
);
CREATE UNIQUE INDEX IF NOT EXISTS live_names ON keys (name) WHERE revoked_ns IS NULL;
CREATE TABLE IF NOT EXISTS signing_keys (
    kid TEXT PRIMARY KEY,
    secret BLOB NOT NULL,
    created_ns INTEGER NOT NULL,
    retires_ns INTEGER
);
CREATE TABLE IF NOT EXISTS revoked_tokens (
    token_id TEXT PRIMARY KEY,
    expires_ns INTEGER NOT NULL
);
"""
_BASE32: Final = "abcdefghijklmnopqrstuvwxyz234567"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TOPIC_PATTERN: Final = re.compile(r"[A-Za-z0-9.:*_/+-]{1,80}")
_REST_PREFIX: Final = re.compile(r"/[A-Za-z0-9._:/-]{0,120}")


class Scopes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a key may do. Every default is the widest: a key is narrowed on purpose."""

    assets: frozenset[AssetClass] = frozenset(AssetClass)
    rest: tuple[str, ...] | None = None  # path prefixes; None: whatever the proxy admits
    topics: tuple[str, ...] = ("*",)  # `*` stands for anything, nothing else is special
    rate_per_minute: Annotated[int, msgspec.Meta(gt=0)] | None = None
    loopback_only: bool = False

    def admits_asset(self, asset: AssetClass) -> bool:
        """Whether sockets of this asset class are covered."""
        return asset in self.assets

    def admits_path(self, path: str) -> bool:
        """Whether this decoded REST path is covered; dot segments never are."""
        if self.rest is None:
            return True
        if "/." in path or "//" in path:
            return False
        return any(
            path == prefix or path.startswith(prefix if prefix.endswith("/") else prefix + "/")
            for prefix in self.rest
        )

    def admits_topic(self, topic: str) -> bool:
        """Whether this topic is covered.

        A wildcard topic (`T.*`) is covered only if all it stands for is: only a star of
        the pattern can cover a star of the topic.
        """
        return "*" in self.topics or any(_covers(pattern, topic) for pattern in self.topics)


def _covers(pattern: str, topic: str) -> bool:
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == topic
    *middle, last = rest
    if not (topic.startswith(first) and topic.endswith(last)):
        return False
    at, end = len(first), len(topic) - len(last)
    for part in middle:  # leftmost is best: it leaves most for the parts that follow
        found = topic.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return at <= end


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What may be shown of a key."""

    key_id: str
    name: str
    scopes: Scopes
    created_ns: int
    revoked_ns: int | None = None
    last_used_ns: int | None = None


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key just made; the only time its secret exists outside its owner's hands."""

    record: KeyRecord
    secret: str

    def __repr__(self) -> str:
        return f"NewKey(record={self.record!r}, secret='***')"


class SigningKey(msgspec.Struct, frozen=True, kw_only=True):
    """What signs tokens, and verifies them until it has retired."""

    kid: str
    secret: bytes
    created_ns: int
    retires_ns: int | None = None

    def __repr__(self) -> str:
        return f"SigningKey(kid={self.kid!r})"

    def verifies(self, now_ns: int) -> bool:
        """Whether a token signed by it may still be valid."""
        return self.retires_ns is None or now_ns < self.retires_ns


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The whole store at one moment."""

    keys: Mapping[str, KeyRecord] = {}
    hashes: Mapping[str, bytes] = {}  # of the secrets, by key id
    signing_keys: Mapping[str, SigningKey] = {}
    revoked_tokens: Mapping[str, int] = {}  # token id to its expiry

    def __repr__(self) -> str:
        return f"Snapshot(keys={len(self.keys)}, revoked_tokens={len(self.revoked_tokens)})"

    def is_live(self, key_id: str) -> bool:
        """Whether the key exists and was not revoked."""
        record = self.keys.get(key_id)
        return record is not None and record.revoked_ns is None

    @property
    def signer(self) -> SigningKey | None:
        """The key that signs now: the youngest that is not retiring."""
        active = [key for key in self.signing_keys.values() if key.retires_ns is None]
        return max(active, key=lambda key: (key.created_ns, key.kid), default=None)


class _Row(NamedTuple):
    key_id: str
    name: str
    secret_sha256: bytes
    scopes: str
    created_ns: int
    revoked_ns: int | None
    last_used_ns: int | None

    def record(self) -> KeyRecord:
        return KeyRecord(
            key_id=self.key_id,
            name=self.name,
            scopes=_scopes.decode(self.scopes),
            created_ns=self.created_ns,
            revoked_ns=self.revoked_ns,
            last_used_ns=self.last_used_ns,
        )


_scopes = msgspec.json.Decoder(Scopes)
_encoder = msgspec.json.Encoder()


def digest_of(credential: str) -> bytes:
    """Hash a credential as the store keeps it; any text is taken, however odd."""
    return hashlib.sha256(credential.encode("utf-8", "surrogatepass")).digest()


class KeyStore:
    """The file. Synchronous and blocking; use it from one thread at a time."""

    def __init__(self, state_dir: Path) -> None:
        """Open the store, making directory (0700), file (0600) and tables if need be.

        Raises:
            ConfigInvalid: the directory or the file cannot be used.
        """
        self._path = state_dir / FILE_NAME
        self._database: sqlite3.Connection | None = None
        try:
            # An existing directory keeps its mode: it may be shared with others on
            # purpose, and the file's own mode is what protects the secrets.
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._connect()
        except (OSError, sqlite3.Error) as error:
            self.close()
            raise ConfigInvalid(
                f"ONETAPE_STATE_DIR: the key store cannot be opened: {error}"
            ) from error
        except ConfigInvalid:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; once more is harmless."""
        if self._database is not None:
            self._database.close()
            self._database = None

    # keys

    def create(self, name: str, *, now_ns: int, scopes: Scopes | None = None) -> NewKey:
        """Make a key; its secret is returned here and nowhere else.

        Raises:
            InvalidRequest: the name is taken or malformed, or a scope is.
        """
        checked = _checked(scopes or Scopes())
        if not _NAME.fullmatch(name):
            raise InvalidRequest("a key's name is 1-64 letters, digits, dots, dashes, underscores")
        key_id = "".join(secrets.choice(_BASE32) for _ in range(8))
        secret = f"ot_{key_id}_{secrets.token_urlsafe(32)}"
        row = (key_id, name, digest_of(secret), _encoder.encode(checked).decode(), now_ns)
        try:
            with self._transaction() as database:
                database.execute(
                    "INSERT INTO keys (key_id, name, secret_sha256, scopes, created_ns)"
                    " VALUES (?, ?, ?, ?, ?)",
                    row,
                )
        except sqlite3.IntegrityError as error:
            raise InvalidRequest(f"there is a key named {name!r} already") from error
        record = KeyRecord(key_id=key_id, name=name, scopes=checked, created_ns=now_ns)
        return NewKey(record=record, secret=secret)

    def records(self) -> list[KeyRecord]:
        """List every key, the revoked ones too, oldest first."""
        return [row.record() for row in self._rows()]

    def revoke(self, name_or_id: str, *, now_ns: int) -> KeyRecord:
        """Revoke a key, and with it every token minted for it.

        Raises:
            NotFound: no live key has this name or id.
        """
        for record in self.records():
            if record.revoked_ns is None and name_or_id in {record.key_id, record.name}:
                break
        else:
            raise NotFound("no live key has this name or id")
        with self._transaction() as database:
            database.execute(
                "UPDATE keys SET revoked_ns = ? WHERE key_id = ?", (now_ns, record.key_id)
            )
        return msgspec.structs.replace(record, revoked_ns=now_ns)

    def touch(self, last_used: Mapping[str, int]) -> None:
        """Note when keys were last used."""
        with self._transaction() as database:
            database.executemany(
                "UPDATE keys SET last_used_ns = max(coalesce(last_used_ns, 0), ?) WHERE key_id = ?",
                [(used_ns, key_id) for key_id, used_ns in last_used.items()],
            )

    # tokens

    def ensure_signing_key(self, *, now_ns: int) -> None:
        """Make the first signing key, unless there is one that signs."""
        if self.snapshot().signer is None:
            self.rotate_signing_key(now_ns=now_ns, overlap_ns=0)

    def rotate_signing_key(self, *, now_ns: int, overlap_ns: int) -> str:
        """Sign with another key from now on; return its id.

        Those before it verify for `overlap_ns` more: at least the life of a token, or 0
        when a signing key has leaked and every token must die.
        """
        kid = secrets.token_hex(4)
        with self._transaction() as database:
            database.execute(
                "UPDATE signing_keys SET retires_ns = min(coalesce(retires_ns, :at), :at)",
                {"at": now_ns + overlap_ns},
            )
            database.execute("DELETE FROM signing_keys WHERE retires_ns <= ?", (now_ns,))
            database.execute(
                "INSERT INTO signing_keys (kid, secret, created_ns) VALUES (?, ?, ?)",
                (kid, secrets.token_bytes(32), now_ns),
            )
        return kid

    def revoke_token(self, token_id: str, *, expires_ns: int, now_ns: int) -> None:
        """Refuse one token until it would have ended anyway."""
        with self._transaction() as database:
            database.execute("DELETE FROM revoked_tokens WHERE expires_ns <= ?", (now_ns,))
            database.execute(
                "INSERT OR REPLACE INTO revoked_tokens VALUES (?, ?)", (token_id, expires_ns)
            )

    # reading

    def snapshot(self) -> Snapshot:
        """Read everything, in one transaction."""
        with self._transaction("DEFERRED") as database:
            rows = self._rows()
            signing = database.execute(
                "SELECT kid, secret, created_ns, retires_ns FROM signing_keys"
            )
            signing_keys = {
                kid: SigningKey(kid=kid, secret=secret, created_ns=created, retires_ns=retires)
                for kid, secret, created, retires in signing
            }
            revoked = dict(database.execute("SELECT token_id, expires_ns FROM revoked_tokens"))
        return Snapshot(
            keys={row.key_id: row.record() for row in rows},
            hashes={row.key_id: row.secret_sha256 for row in rows},
            signing_keys=signing_keys,
            revoked_tokens=revoked,
        )

    def version(self) -> int:
        """Return what differs after another connection wrote."""
        (version,) = self._open.execute("PRAGMA data_version").fetchone()
        return cast("int", version)

    # private

    def _connect(self) -> None:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        self._path.chmod(0o600)
        self._database = database = sqlite3.connect(
            self._path, timeout=5.0, isolation_level=None, check_same_thread=False
        )
        (found,) = database.execute("PRAGMA user_version").fetchone()
        if found > _SCHEMA_VERSION:
            raise ConfigInvalid("ONETAPE_STATE_DIR: the key store is of a later version of onetape")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")  # a revocation must survive a power cut
        if found < _SCHEMA_VERSION:
            database.executescript(f"{_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION};")

    @property
    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            raise sqlite3.ProgrammingError("the key store is closed")
        return self._database

    @contextmanager
    def _transaction(
        self, kind: Literal["DEFERRED", "IMMEDIATE"] = "IMMEDIATE"
    ) -> Generator[sqlite3.Connection]:
        database = self._open
        database.execute(f"BEGIN {kind}")
        try:
            yield database
        except BaseException:
            database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")

    def _rows(self) -> list[_Row]:
        cursor: Any = self._open.execute(
            "SELECT key_id, name, secret_sha256, scopes, created_ns, revoked_ns, last_used_ns"
            " FROM keys ORDER BY created_ns, key_id"
        )
        return [_Row(*row) for row in cursor]


def _checked(scopes: Scopes) -> Scopes:
    try:
        checked = _scopes.decode(_encoder.encode(scopes))
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"a scope is malformed: {error}") from error
    for pattern in checked.topics:
        if not _TOPIC_PATTERN.fullmatch(pattern):
            raise InvalidRequest(f"{pattern!r} is not a topic pattern, like Q.O:SPY*")
    for prefix in checked.rest or ():
        if not _REST_PREFIX.fullmatch(prefix):
            raise InvalidRequest(f"{prefix!r} is not a path prefix, like /v3/snapshot")
    return checked
