"""Where the settings come from, and whether they are fit to start with.

A value is looked for in the environment, then `.env`, then `onetape.toml`, then
the defaults of `onetape.settings`, and remembers where it was found. This module is
the only reader of the environment, and it never writes to it.

No message, repr or traceback made here holds a value, for a key pasted into the
wrong variable is still a key. What was read stays sealed until it is converted, the
frames that raise hold sealed values only, and no error is chained to one that does.
"""

import os
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from enum import StrEnum
from io import StringIO
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, cast
from urllib.parse import urlsplit

import msgspec
from dotenv.parser import parse_stream

from onetape.errors import ConfigInvalid
from onetape.secret import Secret
from onetape.setting_table import SECTIONS, TABLE, Row, SettingDescription, describe
from onetape.settings import (
    CacheConfig,
    ClientConfig,
    Config,
    GatewayConfig,
    HubConfig,
    MassiveConfig,
    Origin,
    SimulatorConfig,
    TradierConfig,
    UpstreamConfig,
)

__all__ = [
    "CacheConfig",
    "ClientConfig",
    "Config",
    "Finding",
    "FindingStatus",
    "GatewayConfig",
    "HubConfig",
    "MassiveConfig",
    "Origin",
    "Secret",
    "SettingDescription",
    "SimulatorConfig",
    "TradierConfig",
    "UpstreamConfig",
    "check_environment",
    "describe",
    "in_the_clear",
    "load",
]

_PREFIX: Final = "ONETAPE_"
_ROWS: Final[Mapping[str, Row]] = {row.variable: row for row in TABLE}
_NAMES: Final = frozenset(_ROWS) | {row.setting.alias for row in TABLE if row.setting.alias}
_KEYS: Final[Mapping[str, Row]] = {row.key: row for row in TABLE}
_BOOLEANS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}
_PRODUCTION: Final[Mapping[str, object]] = {"PORT": 8080, "ONETAPE_LOG_FORMAT": "json"}


def load(env: Mapping[str, str] | None = None, *, cwd: Path | None = None) -> Config:
    """Read every setting.

    Args:
        env: The environment; the process's own by default.
        cwd: Where `.env` and `onetape.toml` are looked for; the working directory
            by default. An explicit `env` without a `cwd` reads no file.

    Raises:
        ConfigInvalid: Naming every variable that is wrong, and what it should be.
    """
    reading = _read(_layers(env, cwd))
    if not reading.problems:
        return _assembled(reading)
    problems = "; ".join(map(str, reading.problems))
    del env, reading  # a traceback that shows locals would show these
    raise ConfigInvalid(problems)


# finding


class _Sealed:
    """Something read and not yet converted; nothing prints it."""

    __slots__ = ("origin", "value")

    def __init__(self, value: object, origin: Origin) -> None:
        self.value = value
        self.origin = origin


class _Problem(NamedTuple):
    """What is wrong with one variable, without its value."""

    variable: str
    message: str

    def __str__(self) -> str:
        return f"{self.variable}: {self.message}"


class _Layers(NamedTuple):
    """The sources in order, each from variable to value."""

    found: tuple[Mapping[str, _Sealed], ...]
    problems: tuple[_Problem, ...]
    state_dir: Path


def _layers(env: Mapping[str, str] | None, cwd: Path | None) -> _Layers:
    if env is None:
        env = os.environ  # noqa: TID251 - the one reader of the environment
        cwd = Path.cwd() if cwd is None else cwd
    problems: list[_Problem] = []
    found = [_environment(env.items(), Origin.ENVIRONMENT, problems)]
    if cwd is not None:
        found.append(_environment(_dotenv(cwd / ".env", problems), Origin.DOTENV, problems))
        found.append(_toml(cwd / "onetape.toml", problems))
    return _Layers(tuple(found), tuple(problems), default_state_dir(env, sys.platform))


def _environment(
    pairs: Iterable[tuple[str, str]], origin: Origin, problems: list[_Problem]
) -> dict[str, _Sealed]:
    found: dict[str, _Sealed] = {}
    for name, value in pairs:
        if name in _NAMES:
            if value.strip():  # compose files pass `NAME=` for what is not set
                found[name] = _Sealed(value.strip(), origin)
        elif name.startswith(_PREFIX):
            problems.append(_unknown(name, origin, _ROWS))
    return found


def _dotenv(path: Path, problems: list[_Problem]) -> Iterator[tuple[str, str]]:
    for binding in parse_stream(StringIO(_text(path, problems))):
        if binding.error:
            problems.append(_Problem(path.name, f"line {binding.original.line} cannot be read"))
        elif binding.key is not None and binding.value is not None:
            yield binding.key, binding.value


def _toml(path: Path, problems: list[_Problem]) -> dict[str, _Sealed]:
    found: dict[str, _Sealed] = {}
    for key, value in _toml_keys(path, problems):
        row = _KEYS.get(key)
        if row is None:
            problems.append(_unknown(key, Origin.TOML, _KEYS))
        elif row.is_secret:
            message = f"does not belong in {path.name}, which people commit; set it in .env"
            problems.append(_Problem(row.variable, message))
        else:
            found[row.variable] = _Sealed(value, Origin.TOML)
    return found


def _toml_keys(path: Path, problems: list[_Problem]) -> Iterator[tuple[str, object]]:
    try:
        document = tomllib.loads(_text(path, problems))
    except tomllib.TOMLDecodeError as error:
        where = str(error).rpartition("(")[2].rstrip(")")
        problems.append(_Problem(path.name, f"is not TOML: {where}"))
        return
    for section, content in document.items():
        if section in SECTIONS and isinstance(content, dict):
            for field, value in cast("dict[str, object]", content).items():
                yield f"{section}.{field}", value
        else:
            yield section, None


def _text(path: Path, problems: list[_Problem]) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError):
        problems.append(_Problem(path.name, "cannot be read: expected UTF-8 text"))
        return ""


def _unknown(name: str, origin: Origin, known: Iterable[str]) -> _Problem:
    # Some settings have our prefix and some a name of their own: ONETAPE_PORT is PORT.
    plain = {one.removeprefix(_PREFIX): one for one in known}
    close = get_close_matches(name.removeprefix(_PREFIX), plain, n=1)
    hint = f"; did you mean {plain[close[0]]}?" if close else ""
    return _Problem(
        name if name.isprintable() else ascii(name), f"no such setting, in {origin.value}{hint}"
    )


def default_state_dir(env: Mapping[str, str], platform: str) -> Path:
    """Return the platform's place for what an application keeps between runs."""
    named = env.get("LOCALAPPDATA" if platform == "win32" else "XDG_STATE_HOME", "")
    if Path(named).is_absolute():  # the XDG rule: a relative one is ignored
        return Path(named) / "onetape"
    try:
        home = Path(env["HOME"]) if env.get("HOME") else Path.home()
    except RuntimeError:  # no home directory: a container with a bare user id
        return Path(".onetape")
    if platform == "darwin":
        return home / "Library" / "Application Support" / "onetape"
    return home / ".local" / "state" / "onetape"


# converting


class _Reading(NamedTuple):
    """All that was found, converted, and all that was wrong."""

    values: dict[str, Any]
    origins: dict[str, Origin]
    problems: list[_Problem]
    warnings: dict[str, str]


def _read(layers: _Layers) -> _Reading:
    reading = _Reading({}, {}, list(layers.problems), {})
    for row in TABLE:
        name, sealed = _first(row, layers.found)
        if sealed is None:
            reading.values[row.variable] = row.default
            continue
        value = _converted(row, sealed)
        if value is None:
            message = f"expected {row.expected} (from {sealed.origin.value})"
            reading.problems.append(_Problem(name, message))
            value = row.default
        else:
            reading.origins[row.variable] = sealed.origin
        reading.values[row.variable] = value
        _compare_with_alias(row, layers.found, reading)
    _derive(reading, layers.state_dir)
    reading.problems.extend(_plain_urls(reading.values))
    return reading


def _first(row: Row, layers: Iterable[Mapping[str, _Sealed]]) -> tuple[str, _Sealed | None]:
    for layer in layers:
        for name in (row.variable, row.setting.alias):
            if name is not None and name in layer:
                return name, layer[name]
    return row.variable, None


def _compare_with_alias(
    row: Row, layers: Iterable[Mapping[str, _Sealed]], reading: _Reading
) -> None:
    alias = row.setting.alias
    if alias is None:
        return
    names = (row.variable, alias)
    found = [next((layer[name] for layer in layers if name in layer), None) for name in names]
    if None not in found and len({_converted(row, one) for one in found if one}) > 1:
        winner, _ = _first(row, layers)
        message = f"{row.variable} and {alias} differ; {winner} is used"
        reading.warnings[row.variable] = message


def _derive(reading: _Reading, state_dir: Path) -> None:
    if "ONETAPE_STATE_DIR" not in reading.origins:
        reading.values["ONETAPE_STATE_DIR"] = state_dir
    if reading.values["APP_ENV"] == "production":
        for variable, value in _PRODUCTION.items():
            if variable not in reading.origins:
                reading.values[variable] = value


_CARRY_KEYS: Final = (
    "MASSIVE_BASE_URL",
    "MASSIVE_SOCKET_URL",
    "TRADIER_BASE_URL",
    "TRADIER_SOCKET_URL",
    "ONETAPE_URL",
)


def _plain_urls(values: Mapping[str, Any]) -> Iterator[_Problem]:
    if values["ONETAPE_ALLOW_PLAIN_HTTP"]:
        return
    for variable in _CARRY_KEYS:
        if message := in_the_clear(cast("str", values[variable])):
            yield _Problem(variable, message)


def in_the_clear(address: str) -> str | None:
    """Return what is wrong with an address that a key would travel to unencrypted."""
    url = urlsplit(address)
    if url.scheme not in ("http", "ws") or _is_loopback(url.hostname or ""):
        return None
    return (
        f"expected {url.scheme}s://, for a key would travel in the clear; plain only "
        "to this host, or with ONETAPE_ALLOW_PLAIN_HTTP=true"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _converted(row: Row, sealed: _Sealed) -> Any | None:
    """Return the value in its type, or None: what was wrong with it must not get out."""
    try:
        value = _typed(row, sealed.value)
        return value if row.setting.check is None else row.setting.check(value)
    except (ValueError, TypeError, RuntimeError):  # RuntimeError: no home to expand ~ to
        return None


def _typed(row: Row, raw: Any) -> Any:
    kind = row.kind
    if kind is Path:
        return Path(_string(raw)).expanduser()
    if row.is_secret:
        return _secret(_string(raw))
    if isinstance(raw, str):
        raw = _from_text(kind, raw)
    # Text of a list or a table has text for its numbers; in TOML numbers are numbers.
    return msgspec.convert(raw, row.hint, strict=not isinstance(raw, str | list | dict))


def _from_text(kind: Any, text: str) -> Any:
    if kind is bool:
        return _BOOLEANS.get(text.lower(), text)
    if kind is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    if kind is dict:
        pairs = (part.partition("=") for part in text.split(",") if part.strip())
        return {name.strip(): value.strip() for name, _, value in pairs}
    return text.lower() if kind is Literal else text


def _string(raw: object) -> str:
    if not isinstance(raw, str):
        raise TypeError
    return raw


def _secret(text: str) -> Secret:
    # It goes into a header: a blank or a control character inside is a paste gone wrong.
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError
    return Secret(text)


def _assembled(reading: _Reading) -> Config:
    sections: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    for row in TABLE:
        sections[row.section][row.field] = reading.values[row.variable]
    built: dict[str, Any] = {name: SECTIONS[name](**fields) for name, fields in sections.items()}
    return Config(origins=reading.origins, warnings=tuple(reading.warnings.values()), **built)


# checking


class FindingStatus(StrEnum):
    """How a variable is."""

    OK = "ok"
    MISSING = "missing"
    INVALID = "invalid"
    DEPRECATED = "deprecated"
    MISMATCH = "mismatch"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What `check-env` says of one variable: never its value, a part of it, or its length."""

    variable: str
    status: FindingStatus
    message: str
    fatal: bool = False

    def __str__(self) -> str:
        """One line, without the value."""
        return f"{self.variable}: {self.status.value}: {self.message}"


def check_environment(
    env: Mapping[str, str] | None = None, *, cwd: Path | None = None
) -> tuple[Finding, ...]:
    """Say of every relevant variable whether it is fit to start with. Never raises for a value.

    Args:
        env: As in `load`.
        cwd: As in `load`.
    """
    return tuple(_findings(_read(_layers(env, cwd))))


def _findings(reading: _Reading) -> Iterator[Finding]:
    wrong = {problem.variable: problem for problem in reading.problems}
    for row in TABLE:
        names = (row.variable, row.setting.alias or row.variable)
        problem = next((wrong.pop(name) for name in names if name in wrong), None)
        if problem is not None:
            yield _finding(problem.variable, FindingStatus.INVALID, problem.message, fatal=True)
        elif (finding := _judged(row, reading)) is not None:
            yield finding
    for name, problem in wrong.items():
        yield _finding(name, FindingStatus.INVALID, problem.message, fatal=True)


def _judged(row: Row, reading: _Reading) -> Finding | None:
    rule = _RULES.get(row.variable)
    finding = None if rule is None else rule(reading)
    if finding is not None:
        return finding
    if row.variable in reading.warnings:
        return _finding(row.variable, FindingStatus.MISMATCH, reading.warnings[row.variable])
    origin = reading.origins.get(row.variable)
    if origin is not None:
        return _finding(row.variable, FindingStatus.OK, f"set, from {origin.value}")
    if row.variable.startswith(_PREFIX) or row.is_secret:
        return None
    return _finding(row.variable, FindingStatus.OK, "not set, so the default applies")


def _finding(variable: str, status: FindingStatus, message: str, *, fatal: bool = False) -> Finding:
    return Finding(variable=variable, status=status, message=message, fatal=fatal)


def _api_key(reading: _Reading) -> Finding | None:
    name, key = "MASSIVE_API_KEY", reading.values["MASSIVE_API_KEY"]
    if key is None:
        message = "not set; without it nothing can be asked of the vendor"
        return _finding(name, FindingStatus.MISSING, message, fatal=True)
    if _is_placeholder(key):
        message = "a placeholder stands where the vendor's key belongs"
        return _finding(name, FindingStatus.INVALID, message, fatal=True)
    return None


def _proxy_token(reading: _Reading) -> Finding | None:
    name, token = "MASSIVE_PROXY_TOKEN", reading.values["MASSIVE_PROXY_TOKEN"]
    if token is None:
        message = "not set; without it tokens are minted only with a client key"
        return _finding(name, FindingStatus.MISSING, message, fatal=True)
    if _is_placeholder(token):
        message = "a placeholder stands where a random token belongs"
        return _finding(name, FindingStatus.INVALID, message, fatal=True)
    if token == reading.values["MASSIVE_API_KEY"]:
        message = "the same as MASSIVE_API_KEY, so every client would hold the vendor's key"
        return _finding(name, FindingStatus.INVALID, message, fatal=True)
    if _is_guessable(token):
        message = "set, but easy to guess; use a random one, such as `openssl rand -hex 32` makes"
        return _finding(name, FindingStatus.INVALID, message)
    return None


def _client_token(reading: _Reading) -> Finding | None:
    name, token = "MASSIVE_CLIENT_TOKEN", reading.values["MASSIVE_CLIENT_TOKEN"]
    is_static = reading.values["ONETAPE_ALLOW_STATIC_TOKEN"]
    if token is None:
        message = "not set, and in static mode clients need their copy of MASSIVE_PROXY_TOKEN"
        return _finding(name, FindingStatus.MISSING, message, fatal=True) if is_static else None
    if token == reading.values["MASSIVE_API_KEY"]:
        message = "the same as MASSIVE_API_KEY, so every client would hold the vendor's key"
        return _finding(name, FindingStatus.INVALID, message, fatal=True)
    if is_static and token != reading.values["MASSIVE_PROXY_TOKEN"]:
        message = "differs from MASSIVE_PROXY_TOKEN, so in static mode clients would be refused"
        return _finding(name, FindingStatus.MISMATCH, message, fatal=True)
    use = "in use, in static mode" if is_static else "not in use, for static mode is off"
    message = f"a static token is {use}; let clients mint short-lived ones"
    return _finding(name, FindingStatus.DEPRECATED, message)


def _vite_token(reading: _Reading) -> Finding | None:
    name, token = "VITE_MASSIVE_PROXY_TOKEN", reading.values["VITE_MASSIVE_PROXY_TOKEN"]
    if token is None:
        return None
    if token == reading.values["MASSIVE_API_KEY"]:
        message = "the same as MASSIVE_API_KEY, and what is built into a page is public"
        return _finding(name, FindingStatus.INVALID, message, fatal=True)
    message = "not used, and what is built into a page is public; remove it"
    return _finding(name, FindingStatus.DEPRECATED, message)


def _static_mode(reading: _Reading) -> Finding | None:
    if not reading.values["ONETAPE_ALLOW_STATIC_TOKEN"]:
        return None
    message = "static mode is on; let clients mint short-lived tokens instead"
    return _finding("ONETAPE_ALLOW_STATIC_TOKEN", FindingStatus.DEPRECATED, message)


def _tradier_token(reading: _Reading) -> Finding | None:
    name, token = "TRADIER_ACCESS_TOKEN", reading.values["TRADIER_ACCESS_TOKEN"]
    if token is None:
        return _finding(name, FindingStatus.MISSING, "not set, so Tradier is disabled")
    if _is_placeholder(token):
        message = "a placeholder stands where Tradier's token belongs"
        return _finding(name, FindingStatus.INVALID, message)
    return None


def _web_origin(reading: _Reading) -> Finding | None:
    if reading.values["WEB_ORIGIN"] or reading.values["APP_ENV"] != "production":
        return None
    message = "not set, so pages of other origins cannot call the gateway"
    return _finding("WEB_ORIGIN", FindingStatus.MISSING, message)


_RULES: Final[Mapping[str, Callable[[_Reading], Finding | None]]] = {
    "MASSIVE_API_KEY": _api_key,
    "MASSIVE_PROXY_TOKEN": _proxy_token,
    "MASSIVE_CLIENT_TOKEN": _client_token,
    "VITE_MASSIVE_PROXY_TOKEN": _vite_token,
    "ONETAPE_ALLOW_STATIC_TOKEN": _static_mode,
    "TRADIER_ACCESS_TOKEN": _tradier_token,
    "WEB_ORIGIN": _web_origin,
}

_PLACEHOLDERS: Final = (
    "changeme", "changethis", "replaceme", "replacethis", "placeholder", "yourapikey", "yourkey",
    "yourtoken", "yoursecret", "apikeyhere", "keyhere", "tokenhere", "secrethere", "todo", "tbd",
    "none", "null", "undefined", "example", "dummy", "secret", "password", "apikey", "token", "key",
)  # fmt: skip


def _is_placeholder(secret: Secret) -> bool:
    letters = "".join(filter(str.isalnum, secret.reveal().lower()))
    if letters in _PLACEHOLDERS or len(set(letters)) <= 1:
        return True
    return letters.startswith("your") or any(
        word in letters for word in _PLACEHOLDERS if len(word) >= 7
    )


def _is_guessable(secret: Secret) -> bool:
    value = secret.reveal()
    return len(value) < 16 or len(set(value)) < 8
