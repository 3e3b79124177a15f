import os
import pickle
import re
import traceback
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, strategies as st

from onetape.config import (
    Finding,
    FindingStatus,
    Origin,
    check_environment,
    default_state_dir,
    describe,
    load,
)
from onetape.errors import ConfigInvalid
from onetape.model import AssetClass
from onetape.setting_table import TABLE

KEY = "kQ7vR2mX9pL4wZ8tB6nC3yH5"
TOKEN = "tW9sD4fG7hJ2kL5qE8rU3iO6"
READY = {"MASSIVE_API_KEY": KEY, "MASSIVE_PROXY_TOKEN": TOKEN}
VARIABLES = [row.variable for row in TABLE]


def text_files(directory: Path, *, dotenv: str = "", toml: str = "") -> Path:
    (directory / ".env").write_text(dotenv, "utf-8")
    (directory / "onetape.toml").write_text(toml, "utf-8")
    return directory


def findings(env: Mapping[str, str]) -> dict[str, Finding]:
    return {finding.variable: finding for finding in check_environment(env)}


# where values come from


def test_the_environment_wins_over_dotenv_over_toml_over_the_defaults(tmp_path: Path) -> None:
    toml = '[gateway]\nhost = "::1"\nmax_clients = 1\nlinger_s = 1\n'
    cwd = text_files(tmp_path, dotenv="ONETAPE_HOST=localhost\nONETAPE_MAX_CLIENTS=2\n", toml=toml)

    config = load({"ONETAPE_HOST": "0.0.0.0"}, cwd=cwd)

    gateway = config.gateway
    assert (gateway.host, gateway.max_clients, gateway.linger_s) == ("0.0.0.0", 2, 1.0)
    assert gateway.idle_s == 5.0
    assert config.origins == {
        "ONETAPE_HOST": Origin.ENVIRONMENT,
        "ONETAPE_MAX_CLIENTS": Origin.DOTENV,
        "ONETAPE_LINGER_S": Origin.TOML,
    }


def test_every_setting_can_stand_in_the_file_but_the_secrets(tmp_path: Path) -> None:
    toml = """
        [massive]
        base_url = "https://proxy.example.com/massive/"
        [gateway]
        assets = ["stocks"]
        web_origins = ["https://desk.example.com"]
        log_level = "WARNING"
        allow_static_token = true
        state_dir = "/srv/onetape"
        [cache.ttl_s]
        snapshot = 1
        aggs = 2.5
        [simulator]
        hours = "exchange"
    """

    config = load({}, cwd=text_files(tmp_path, toml=toml))

    assert config.massive.base_url == "https://proxy.example.com/massive"
    assert config.gateway.assets == (AssetClass.STOCKS,)
    assert config.gateway.web_origins == ("https://desk.example.com",)
    assert (config.gateway.log_level, config.gateway.allow_static_token) == ("warning", True)
    assert config.gateway.state_dir == Path("/srv/onetape")
    assert config.cache.ttl_s == {"snapshot": 1.0, "aggs": 2.5}
    assert config.simulator.hours == "exchange"


def test_an_explicit_environment_without_a_directory_reads_no_file() -> None:
    assert load({}).origins == {}


def test_by_default_the_process_is_asked_and_left_unchanged() -> None:
    before = dict(os.environ)  # noqa: TID251 - to see that it does not change

    expected = {name for name in before if name in VARIABLES and before[name].strip()}

    assert expected <= set(load().origins)
    assert dict(os.environ) == before  # noqa: TID251 - as above


def test_dotenv_is_taken_literally_and_never_enters_the_environment(tmp_path: Path) -> None:
    dotenv = "# a comment\nexport MASSIVE_API_KEY='a$b${HOME}c'\nOTHER=1\nBARE\nPORT=4000 # mine\n"

    config = load({}, cwd=text_files(tmp_path, dotenv=dotenv))

    assert config.massive.api_key is not None
    assert config.massive.api_key.reveal() == "a$b${HOME}c"
    assert config.gateway.port == 4000
    assert "OTHER" not in os.environ  # noqa: TID251 - to see that it is not written


def test_an_empty_variable_is_an_unset_one(tmp_path: Path) -> None:
    """Compose files pass `NAME=` for what their user did not set."""
    cwd = text_files(tmp_path, dotenv="PORT=4000\n")

    assert load({"PORT": " ", "ONETAPE_HOST": ""}, cwd=cwd).gateway.port == 4000


# defaults


def test_the_defaults_are_those_of_the_sources() -> None:
    """R17, R21, R22, R28, C14, C29."""
    config = load({})

    assert config.massive.api_key is None
    assert config.massive.base_url == "https://api.massive.com"
    assert config.massive.socket_url == "wss://socket.massive.com"
    assert config.tradier.base_url == "https://api.tradier.com/v1"
    assert (config.gateway.host, config.gateway.port) == ("127.0.0.1", 3000)
    assert (config.gateway.rate_per_minute, config.gateway.raw_rate_per_minute) == (1200, 300)
    assert config.gateway.token_ttl_s == 300
    assert not config.gateway.allow_static_token
    assert config.gateway.assets == tuple(AssetClass)
    assert config.gateway.web_origins == config.gateway.trusted_proxies == ()


@pytest.mark.parametrize(
    ("env", "port", "log_format"),
    [
        ({}, 3000, "console"),
        ({"APP_ENV": "development"}, 3000, "console"),
        ({"APP_ENV": "production"}, 8080, "json"),
        ({"NODE_ENV": "Production"}, 8080, "json"),
        ({"APP_ENV": "test", "NODE_ENV": "production"}, 3000, "console"),
        ({"APP_ENV": "production", "PORT": "80"}, 80, "json"),
        ({"APP_ENV": "production", "ONETAPE_LOG_FORMAT": "console"}, 8080, "console"),
    ],
)
def test_production_has_its_own_port_and_log(
    env: Mapping[str, str], port: int, log_format: str
) -> None:
    """R21, C29: 3000, and 8080 in production, unless PORT says otherwise."""
    gateway = load(env).gateway

    assert (gateway.port, gateway.log_format) == (port, log_format)


@pytest.mark.parametrize(
    ("env", "platform", "expected"),
    [
        ({"HOME": "/h"}, "linux", "/h/.local/state/onetape"),
        ({"HOME": "/h", "XDG_STATE_HOME": "/x"}, "linux", "/x/onetape"),
        ({"HOME": "/h", "XDG_STATE_HOME": "relative"}, "linux", "/h/.local/state/onetape"),
        ({"HOME": "/h"}, "darwin", "/h/Library/Application Support/onetape"),
        ({"HOME": "/h", "LOCALAPPDATA": "/l"}, "win32", "/l/onetape"),
        ({}, "linux", str(Path.home() / ".local/state/onetape")),
    ],
)
def test_state_is_kept_where_the_platform_keeps_it(
    env: Mapping[str, str], platform: str, expected: str
) -> None:
    assert default_state_dir(env, platform) == Path(expected)


def test_a_given_state_directory_may_begin_at_home() -> None:
    assert load({"ONETAPE_STATE_DIR": "~/state"}).gateway.state_dir == Path.home() / "state"


# one name, two names, no name


@pytest.mark.parametrize(
    ("env", "url", "warned"),
    [
        ({"MASSIVE_API_BASE": "https://a.example"}, "https://a.example", False),
        ({"MASSIVE_BASE_URL": "https://b.example"}, "https://b.example", False),
        (
            {"MASSIVE_API_BASE": "https://a.example", "MASSIVE_BASE_URL": "https://b.example"},
            "https://b.example",
            True,
        ),
        (
            {"MASSIVE_API_BASE": "https://b.example/", "MASSIVE_BASE_URL": "https://b.example"},
            "https://b.example",
            False,
        ),
    ],
)
def test_the_base_url_has_two_names_and_one_winner(
    env: Mapping[str, str], url: str, warned: bool
) -> None:
    """R17."""
    config = load(env)

    assert config.massive.base_url == url
    assert config.warnings == (
        ("MASSIVE_BASE_URL and MASSIVE_API_BASE differ; MASSIVE_BASE_URL is used",)
        if warned
        else ()
    )


def test_an_alias_in_the_environment_wins_over_the_name_in_a_file(tmp_path: Path) -> None:
    cwd = text_files(tmp_path, dotenv="MASSIVE_BASE_URL=https://file.example\n")

    config = load({"MASSIVE_API_BASE": "https://env.example"}, cwd=cwd)

    assert config.massive.base_url == "https://env.example"
    assert config.warnings == (
        "MASSIVE_BASE_URL and MASSIVE_API_BASE differ; MASSIVE_API_BASE is used",
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ONETAPE_PORT", "did you mean PORT?"),
        ("ONETAPE_MAX_CLIENT", "did you mean ONETAPE_MAX_CLIENTS?"),
        ("ONETAPE_LINGER", "did you mean ONETAPE_LINGER_S?"),
        ("ONETAPE_ZZZZZZ", "no such setting"),
    ],
)
def test_an_unknown_name_of_ours_is_refused_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(ConfigInvalid, match=re.escape(name)) as refused:
        load({name: "1"})

    assert hint in str(refused.value)


def test_an_unknown_name_of_others_is_not_our_business() -> None:
    assert load({"HOME": "/h", "MASSIVE_THEME": "dark"}).origins == {}


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("[gateway]\nprot = 1", "gateway.prot: no such setting, in onetape.toml; did you mean"),
        ("[gatewy]\nport = 1", "gatewy: no such setting"),
        ("port = 1", "port: no such setting"),
        ('"a\\nb" = 1', r"'a\nb': no such setting"),
        ("massive = 1", "massive: no such setting"),
        ("[gateway]\nport = '80x'", "PORT: expected a whole number"),
        ("[gateway]\nport = true", "PORT: expected a whole number"),
        ("[gateway]\nport = 1.5", "PORT: expected a whole number"),
        ("[gateway]\nport = 2024-01-01", "PORT: expected a whole number"),
        ("[gateway]\nhost = 1", "ONETAPE_HOST: expected an address"),
        ("[gateway]\nstate_dir = 1", "ONETAPE_STATE_DIR: expected a path"),
        ("[gateway]\nassets = []", "ONETAPE_ASSETS: expected a comma-separated list of options"),
        ("[gateway]\nassets = [1]", "ONETAPE_ASSETS: expected"),
        ("[cache]\nttl_s = {a = -1}", "ONETAPE_CACHE_TTL: expected endpoint=seconds"),
        ("[upstream]\ntimeout_s = inf", "ONETAPE_UPSTREAM_TIMEOUT_S: expected a number above 0"),
        ("[upstream]\ntimeout_s = nan", "ONETAPE_UPSTREAM_TIMEOUT_S: expected a number above 0"),
        ("[massive]\napi_key = 'x'", "MASSIVE_API_KEY: does not belong in onetape.toml"),
        ("not toml", "onetape.toml: is not TOML: at line 1"),
    ],
)
def test_a_wrong_file_is_refused_by_the_name_of_what_is_wrong(
    tmp_path: Path, toml: str, says: str
) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        load({}, cwd=text_files(tmp_path, toml=toml))

    assert says in str(refused.value)


def test_a_line_of_dotenv_that_cannot_be_read_is_named_by_its_number(tmp_path: Path) -> None:
    cwd = text_files(tmp_path, dotenv=f"PORT=1\nMASSIVE_API_KEY='{KEY}\n")

    with pytest.raises(ConfigInvalid, match=r"\.env: line 2 cannot be read") as refused:
        load({}, cwd=cwd)

    assert KEY[:4] not in str(refused.value)


@pytest.mark.parametrize("name", [".env", "onetape.toml"])
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xff\xfe\x00")

    with pytest.raises(ConfigInvalid, match="cannot be read"):
        load({}, cwd=tmp_path)


def test_a_directory_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()

    with pytest.raises(ConfigInvalid, match="cannot be read"):
        load({}, cwd=tmp_path)


# values


@pytest.mark.parametrize(
    ("variable", "text", "shown"),
    [
        ("PORT", "0", "0"),
        ("ONETAPE_ALLOW_STATIC_TOKEN", "YES", "true"),
        ("ONETAPE_ALLOW_STATIC_TOKEN", "0", "false"),
        ("ONETAPE_LOG_LEVEL", "DEBUG", "debug"),
        ("ONETAPE_ASSETS", "stocks, options,stocks", "stocks,options"),
        ("ONETAPE_INDICES", "I:SPX,vix", "SPX,VIX"),
        ("ONETAPE_REST_PREFIXES", "/v2/,/v3", "/v2,/v3"),
        ("ONETAPE_TRUSTED_PROXIES", "10.0.0.1, 10.1.2.3/16, ::1", "10.0.0.1/32,10.1.0.0/16,::1/128"),
        ("ONETAPE_CACHE_TTL", "snapshot=1, aggs=0.5", "snapshot=1,aggs=0.5"),
        ("ONETAPE_CACHE_BYTES", "0", "0"),
        ("WEB_ORIGIN", "https://Desk.Example.com/,http://localhost:5173",
         "https://desk.example.com,http://localhost:5173"),
        ("TRADIER_BASE_URL", "https://sandbox.tradier.com/v1/", "https://sandbox.tradier.com/v1"),
        ("MASSIVE_BASE_URL", "http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("MASSIVE_SOCKET_URL", "ws://[::1]:9", "ws://[::1]:9"),
        ("ONETAPE_SIM_SYMBOLS", "AMD,F", "AMD,F"),
    ],
)  # fmt: skip
def test_a_value_is_read_and_shown_in_its_canonical_form(
    variable: str, text: str, shown: str
) -> None:
    (row,) = (row for row in describe(load({variable: text})) if row.variable == variable)

    assert (row.value, row.origin) == (shown, Origin.ENVIRONMENT)


@pytest.mark.parametrize(
    ("variable", "texts"),
    [
        ("PORT", ["-1", "65536", "http", "1_000", "80.5", "9" * 40, "0x50"]),
        ("ONETAPE_ALLOW_STATIC_TOKEN", ["maybe", "2", "tru"]),
        ("ONETAPE_RATE_PER_MINUTE", ["0", "-5", "many"]),
        ("ONETAPE_LINGER_S", ["-1", "nan", "inf", "1e999", "5s"]),
        ("ONETAPE_LOG_LEVEL", ["loud"]),
        ("ONETAPE_ASSETS", ["crypto", ",", "options;stocks"]),
        ("ONETAPE_INDICES", ["SP X", "I:"]),
        ("ONETAPE_REST_PREFIXES", ["v2", "/", "/v2/x", "/..", "//host"]),
        ("ONETAPE_TRUSTED_PROXIES", ["*", "10.0.0.0/99", "proxy"]),
        ("ONETAPE_CACHE_TTL", ["snapshot", "snapshot=", "snapshot=soon", "a=-1"]),
        ("ONETAPE_HOST", ["http://x", "a b", "a/b"]),
        ("ONETAPE_STATE_DIR", ["~nobody-of-that-name/x"]),
        ("WEB_ORIGIN", ["*", "null", "desk.example.com", "https://a/path", "https://u:p@a"]),
        ("MASSIVE_BASE_URL", ["api.massive.com", "ftp://a", "https://", "https://u:p@a",
                              "https://a?x=1", "https://a#x", "https://a:0", "https://a:99999",
                              "https://a b", "https://é", "https://[::1", "http://example.com"]),
        ("MASSIVE_SOCKET_URL", ["https://a", "ws://example.com", "ws://128.0.0.1"]),
        ("TRADIER_BASE_URL", ["http://example.com"]),
        ("MASSIVE_API_KEY", ["two words", "tab\tbed", "line\nbreak", "schlüssel", "nul\0"]),
        ("APP_ENV", ["prod", "staging"]),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_by_name_with_what_is_expected(
    variable: str, texts: list[str]
) -> None:
    for text in texts:
        with pytest.raises(ConfigInvalid, match=f"{variable}: expected ") as refused:
            load({variable: text})
        assert refused.value.__context__ is None, "the cause would hold the value"


def test_every_wrong_variable_is_named_at_once() -> None:
    with pytest.raises(ConfigInvalid, match=r"PORT: .*; ONETAPE_LINGER_S: "):
        load({"ONETAPE_LINGER_S": "x", "PORT": "x"})


def test_a_wrong_alias_is_called_by_its_own_name() -> None:
    with pytest.raises(ConfigInvalid, match="NODE_ENV: expected one of development"):
        load({"NODE_ENV": "staging"})


def test_plain_http_to_another_host_is_for_those_who_ask_for_it() -> None:
    """R17: https unless in a test."""
    env = {"MASSIVE_BASE_URL": "http://sim:3100", "MASSIVE_SOCKET_URL": "ws://sim:3100"}

    config = load({**env, "ONETAPE_ALLOW_PLAIN_HTTP": "true"})

    assert config.massive.base_url == "http://sim:3100"


@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("MASSIVE_BASE_URL", "http://vendor.example"),
        ("TRADIER_SOCKET_URL", "ws://vendor.example/v1"),
        ("ONETAPE_URL", "http://gateway.example:3000"),
    ],
)
def test_no_key_travels_to_another_host_in_the_clear(variable: str, address: str) -> None:
    with pytest.raises(ConfigInvalid, match=f"{variable}.*in the clear"):
        load({variable: address})


@given(st.sampled_from(VARIABLES), st.text(max_size=40))
def test_any_text_in_any_variable_is_a_value_or_our_error(variable: str, text: str) -> None:
    try:
        load({variable: text})
    except ConfigInvalid as error:
        said = str(error)
    else:
        said = variable
    assert said.startswith(variable)


# secrets


@pytest.mark.parametrize("variable", VARIABLES)
def test_no_error_or_traceback_holds_what_was_set(variable: str, tmp_path: Path) -> None:
    """W-14: a key pasted into the wrong variable is still a key."""
    text_files(tmp_path, dotenv=f"{variable}={KEY}\nONETAPE_NOT_OURS={KEY}\n")

    with pytest.raises(ConfigInvalid) as refused:
        load({variable: KEY, "ONETAPE_UNKNOWN": KEY}, cwd=tmp_path)

    shown = traceback.TracebackException.from_exception(refused.value, capture_locals=True)
    assert KEY[:4] not in str(refused.value)
    assert KEY[:4] not in "".join(shown.format())


def test_a_config_shows_no_secret_however_it_is_printed() -> None:
    """R16, R26, W-14."""
    secrets = {row.variable: KEY for row in TABLE if row.is_secret}

    config = load(secrets)

    shown = [repr(config), str(config), f"{config}", repr(describe(config))]
    shown += [repr(msgspec.structs.asdict(config.massive)), repr(check_environment(secrets))]
    assert all(KEY[:4] not in text for text in shown)
    assert {row.value for row in describe(config) if row.secret} == {"***"}


def test_a_config_with_secrets_is_not_serialised() -> None:
    config = load(READY)

    for encode in (msgspec.json.encode, msgspec.msgpack.encode, msgspec.to_builtins, pickle.dumps):
        with pytest.raises(TypeError) as refused:
            encode(config)
        assert KEY[:4] not in str(refused.value)


# checking


def statuses(env: Mapping[str, str]) -> dict[str, FindingStatus]:
    return {name: finding.status for name, finding in findings(env).items()}


def fatal(env: Mapping[str, str]) -> set[str]:
    return {name for name, finding in findings(env).items() if finding.fatal}


def test_a_ready_environment_has_nothing_fatal() -> None:
    """R24."""
    assert fatal(READY) == set()
    assert findings(READY)["MASSIVE_API_KEY"].status is FindingStatus.OK


@pytest.mark.parametrize("missing", sorted(READY))
def test_the_two_required_variables_are_missed_by_name(missing: str) -> None:
    """R24, C30."""
    env = {name: value for name, value in READY.items() if name != missing}

    assert findings(env)[missing].status is FindingStatus.MISSING
    assert fatal(env) == {missing}


@pytest.mark.parametrize(
    ("static", "client", "status", "is_fatal"),
    [
        ("false", "", None, False),
        ("false", TOKEN, FindingStatus.DEPRECATED, False),
        ("false", "another-token-altogether", FindingStatus.DEPRECATED, False),
        ("true", "", FindingStatus.MISSING, True),
        ("true", TOKEN, FindingStatus.DEPRECATED, False),
        ("true", "another-token-altogether", FindingStatus.MISMATCH, True),
    ],
)
def test_the_client_token_matters_in_static_mode_only(
    static: str, client: str, status: FindingStatus | None, is_fatal: bool
) -> None:
    """R19, R24, C8."""
    env = {**READY, "ONETAPE_ALLOW_STATIC_TOKEN": static, "MASSIVE_CLIENT_TOKEN": client}

    finding = findings(env).get("MASSIVE_CLIENT_TOKEN")

    assert (finding and finding.status) == status
    assert fatal(env) == ({"MASSIVE_CLIENT_TOKEN"} if is_fatal else set())
    deprecated = statuses(env).get("ONETAPE_ALLOW_STATIC_TOKEN") is FindingStatus.DEPRECATED
    assert deprecated == (static == "true")


@pytest.mark.parametrize(
    ("change", "variable", "status", "is_fatal"),
    [
        ({"MASSIVE_API_KEY": "changeme"}, "MASSIVE_API_KEY", "invalid", True),
        ({"MASSIVE_API_KEY": "your_api_key"}, "MASSIVE_API_KEY", "invalid", True),
        ({"MASSIVE_API_KEY": "<YOUR-KEY-FROM-MASSIVE>"}, "MASSIVE_API_KEY", "invalid", True),
        ({"MASSIVE_API_KEY": "xxxxxxxxxxxxxxxxxxxx"}, "MASSIVE_API_KEY", "invalid", True),
        ({"MASSIVE_PROXY_TOKEN": "Change-Me-Please-1"}, "MASSIVE_PROXY_TOKEN", "invalid", True),
        ({"MASSIVE_PROXY_TOKEN": KEY}, "MASSIVE_PROXY_TOKEN", "invalid", True),
        ({"MASSIVE_PROXY_TOKEN": "hunter2"}, "MASSIVE_PROXY_TOKEN", "invalid", False),
        ({"MASSIVE_CLIENT_TOKEN": KEY}, "MASSIVE_CLIENT_TOKEN", "invalid", True),
        ({"VITE_MASSIVE_PROXY_TOKEN": KEY}, "VITE_MASSIVE_PROXY_TOKEN", "invalid", True),
        ({"VITE_MASSIVE_PROXY_TOKEN": TOKEN}, "VITE_MASSIVE_PROXY_TOKEN", "deprecated", False),
        ({"TRADIER_ACCESS_TOKEN": ""}, "TRADIER_ACCESS_TOKEN", "missing", False),
        ({"TRADIER_ACCESS_TOKEN": "todo"}, "TRADIER_ACCESS_TOKEN", "invalid", False),
        ({"TRADIER_ACCESS_TOKEN": "uI8oP3aS6dF1gH4j"}, "TRADIER_ACCESS_TOKEN", "ok", False),
        ({"APP_ENV": "production"}, "WEB_ORIGIN", "missing", False),
        ({"MASSIVE_BASE_URL": "https://a", "MASSIVE_API_BASE": "https://b"},
         "MASSIVE_BASE_URL", "mismatch", False),
        ({"PORT": "x"}, "PORT", "invalid", True),
        ({"NODE_ENV": "staging"}, "NODE_ENV", "invalid", True),
        ({"MASSIVE_BASE_URL": "http://example.com"}, "MASSIVE_BASE_URL", "invalid", True),
        ({"ONETAPE_TYPO": "1"}, "ONETAPE_TYPO", "invalid", True),
        ({"ONETAPE_LINGER_S": "9"}, "ONETAPE_LINGER_S", "ok", False),
        ({}, "PORT", "ok", False),
    ],
)  # fmt: skip
def test_every_relevant_variable_is_judged_in_one_line(
    change: Mapping[str, str], variable: str, status: str, is_fatal: bool
) -> None:
    """R19, R22, R24."""
    env = {**READY, **change}

    finding = findings(env)[variable]

    assert (finding.status, finding.fatal) == (status, is_fatal)
    assert fatal(env) == ({variable} if is_fatal else set())
    assert str(finding).startswith(f"{variable}: {status}: ")
    assert "\n" not in str(finding)


def test_checking_reads_the_files_too(tmp_path: Path) -> None:
    cwd = text_files(tmp_path, dotenv=f"MASSIVE_API_KEY={KEY}\n", toml="not toml")

    found = {one.variable: one for one in check_environment({}, cwd=cwd)}

    assert found["MASSIVE_API_KEY"].message == "set, from .env"
    assert found["onetape.toml"].fatal


@given(
    st.dictionaries(
        st.sampled_from([row.variable for row in TABLE if row.is_secret]),
        st.sampled_from([KEY, TOKEN, "changeme", "hunter2-hunter2", "a b", "z" * 77]),
    ),
    st.booleans(),
)
def test_findings_never_hold_a_value_a_part_of_it_or_its_length(
    env: dict[str, str], static: bool
) -> None:
    """R24, R26, W-14."""
    said = "\n".join(
        map(str, check_environment({**env, "ONETAPE_ALLOW_STATIC_TOKEN": str(static)}))
    )

    for value in env.values():
        assert value[:6] not in said
        assert not re.search(rf"\b{len(value)}\b", said.replace("rand -hex 32", ""))


def test_each_variable_has_one_finding_at_most() -> None:
    found = check_environment({**READY, "APP_ENV": "prod", "NODE_ENV": "prod", "PORT": "x"})

    assert len({finding.variable for finding in found}) == len(found)
