from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given, strategies as st

from onetape.errors import InvalidRequest, NotFound, RequestError
from onetape.gateway.routes import (
    MAX_PATH_BYTES,
    MAX_QUERY_BYTES,
    Routes,
    Target,
    without_credentials,
)
from onetape.massive.wire_rest import Endpoint

ROUTES = Routes()


def target(path: str, query: str = "") -> Target:
    return ROUTES.target(path.encode("latin-1"), query.encode("latin-1"))


def test_what_goes_upstream_is_what_was_sent() -> None:
    """W-42: no spelling of ours can differ from what was judged."""
    seen = target("/v3/snapshot/options/I%3aSPX/O:SPXW", "limit=250&ticker.any_of=A%2cB")

    assert seen.path == "/v3/snapshot/options/I%3aSPX/O:SPXW"
    assert seen.query == "limit=250&ticker.any_of=A%2cB"
    assert seen.endpoint is Endpoint.OPTION_SNAPSHOT
    assert seen.prefix == ""


def test_the_mount_is_taken_off_and_remembered() -> None:
    seen = target("/api/massive/v3/trades/AAPL", "limit=2")

    assert (seen.path, seen.prefix) == ("/v3/trades/AAPL", "/api/massive")
    assert seen.key == target("/v3/trades/AAPL", "limit=2").key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("b=2&a=1", "a=1&b=2"),
        ("ticker.any_of=I%3ASPX%2CI%3ANDX", "ticker.any_of=I:SPX,I:NDX"),
        ("ticker.any_of=I%3aSPX", "ticker.any_of=I%3ASPX"),
        ("search=a+b", "search=a%20b"),
        ("%61=1", "a=1"),
        ("a=1&&b=2&", "a=1&b=2"),
        ("apiKey=one&a=1", "a=1&apiKey=two"),
    ],
)
def test_spellings_of_one_question_share_a_key(one: str, other: str) -> None:
    """R104, W-26."""
    assert target("/v3/snapshot", one).key == target("/v3/snapshot", other).key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a=1&a=2", "a=2&a=1"),
        ("a=1%26b=2", "a=1&b=2"),
        ("a=1%2B2", "a=1+2"),
        ("a%3D1=2", "a=1%3D2"),
        ("ticker=AAPL", "ticker=aapl"),
        ("a=%2525", "a=%25"),
    ],
)
def test_different_questions_have_different_keys(one: str, other: str) -> None:
    assert target("/v3/snapshot", one).key != target("/v3/snapshot", other).key


def test_escapes_in_a_path_share_a_key_too() -> None:
    assert target("/v3/trades/O%3aX").key == target("/v3/trades/O:X").key


HOSTILE = [
    "",
    "*",
    "v3/trades/A",
    "http://evil.example/v3/trades/A",
    "//evil.example/v3/trades/A",
    "/v3//trades",
    "/v3/trades//",
    "/v3/../v3/trades/A",
    "/v3/./trades/A",
    "/v3/trades/..",
    "/v3/trades/%2e%2e",
    "/v3/trades/%2E%2e/x",
    "/v3/trades/.%2e/x",
    "/v3/trades/...",
    "/v3/%2e/trades",
    "/v3/trades/a%2fb",
    "/v3/trades/a%2Fb",
    "/v3/trades/a%5cb",
    "/v3/trades/a\\b",
    "/v3/trades/..\\..\\x",
    "/v3/trades/a%00",
    "/v3/trades/a\x00",
    "/v3/trades/a%0d%0aX: y",
    "/v3/trades/a\r\nX: y",
    "/v3/trades/a%20b",
    "/v3/trades/a b",
    "/v3/trades/%252e%252e",
    "/v3/trades/%25",
    "/v3/trades/%",
    "/v3/trades/%4",
    "/v3/trades/%zz",
    "/v3/trades/%u002e",
    "/v3/trades/%c0%ae%c0%ae",
    "/v3/trades/\xe9",
    "/v3/trades/%C3%A9",
    "/v3/trades/a;b",
    "/v3/trades/..;/x",
    "/v3/trades/%3b",
    "/v3/trades/a?b",
    "/v3/trades/a%3fb",
    "/v3/trades/a#b",
    "/v3/trades/a%23b",
    '/v3/trades/a"b',
    "/v3/trades/<x>",
    "/v3/trades/" + "A" * MAX_PATH_BYTES,
    "/api/massive//v3/trades/A",
    "/api/massive/../v3/trades/A",
    "/api/massive/http://evil.example/v3",
]


@pytest.mark.parametrize("path", HOSTILE)
def test_an_ambiguous_path_is_refused(path: str) -> None:
    """R45, W-42."""
    with pytest.raises(InvalidRequest):
        target(path)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v3",
        "/v4/x",
        "/V3/x",
        "/v33/x",
        "/metrics",
        "/api/massive",
        "/api/massive/",
        "/api/massivev3/trades/A",
        "/api/massive/api/massive/v3/trades/A",
        "/api/massive/metrics",
        "/v%33/trades/A",
        "/%76%33/trades/A",
        "/api/massive/v%33/trades/A",
        "/%61pi/massive/v3/trades/A",
        "/API/massive/v3/trades/A",
    ],
)
def test_a_path_outside_the_allow_list_is_not_found(path: str) -> None:
    with pytest.raises(NotFound):
        target(path)


@pytest.mark.parametrize(
    "query",
    [
        "a=%",
        "a=%0",
        "a=%zz",
        "a=%00",
        "a=%0d%0aX: y",
        "a=1;b=2",
        "a=\xe9",
        "a=1 2",
        "a=1\r\n",
        "a=<x>",
        'a="',
        "a=1#b",
        "a=" + "1" * MAX_QUERY_BYTES,
    ],
)
def test_an_ambiguous_query_is_refused(query: str) -> None:
    with pytest.raises(InvalidRequest):
        target("/v3/trades/A", query)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "limit=250",
        "strike_price.gte=100&strike_price.lte=110.5",
        "url=http://x/y?z",
        "search=caf%C3%A9",
        "timestamp.lte=2022-02-17T17%3A25%3A13.009356032Z",
        "cursor=YXA9MTkyODgxNjYm_-",
        "options=%3Cmassive.rest.models.request.RequestOptionBuilder+object+at+0x7f%3E",
        "ticker.any_of=" + "%2C".join(f"O%3ASPXW251219C{n:08d}" for n in range(250)),
    ],
)
def test_what_official_clients_send_passes(query: str) -> None:
    assert target("/v3/snapshot", query).query == query


@pytest.mark.parametrize(
    "path",
    [
        "/v1/marketstatus/now",
        "/v2/aggs/ticker/I:NDX/range/1/day/1578114000000/2020-01-10",
        "/v2/snapshot/locale/global/markets/crypto/tickers/X:BTCUSD/book",
        "/v3/trades/BRK.B",
        "/v3/trades/BRK%2EB",
        "/vX/reference/tickers/META/events",
        "/v3/snapshot/",
    ],
)
def test_the_vendors_own_paths_pass(path: str) -> None:
    assert target(path).path == path


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("apiKey=s", ""),
        ("a=1&apiKey=s&b=2", "a=1&b=2"),
        ("apiKey=s&apiKey=t&a=1&apiKey=u", "a=1"),
        ("apiKey", ""),
        ("APIKEY=s", ""),
        ("api_key=s", ""),
        ("%61piKey=s", ""),
        ("%61%70%69%4b%65%79=s", ""),
        ("%61%70%69%4B%65%79=s", ""),
        ("+apiKey=s", ""),
        ("apiKey%20=s", ""),
        ("token=s", ""),
        ("x-massive-proxy-token=s", ""),
        ("a=1&&b=%2C", "a=1&&b=%2C"),
        ("a=apiKey", "a=apiKey"),
        ("myapiKey=1", "myapiKey=1"),
        ("%zzapiKey=1", "%zzapiKey=1"),
    ],
)
def test_credentials_are_taken_out_and_the_rest_stays(query: str, left: str) -> None:
    """R30."""
    assert without_credentials(query.encode()) == left.encode()


def test_other_prefixes_can_be_allowed() -> None:
    routes = Routes(["/futures", "/v3"])

    assert routes.target(b"/futures/v1/x", b"").path == "/futures/v1/x"
    with pytest.raises(NotFound):
        routes.target(b"/v2/x", b"")


def test_targets_are_remembered_within_bounds_and_without_credentials() -> None:
    routes = Routes()
    first = routes.target(b"/v3/snapshot", b"a=1&apiKey=secret")
    assert routes.target(b"/v3/snapshot", b"a=1&apiKey=another") is first

    long = b"ticker.any_of=" + b",".join([b"A" * 20] * 100)
    assert routes.target(b"/v3/snapshot", long) is not routes.target(b"/v3/snapshot", long)
    for n in range(5_000):
        routes.target(b"/v3/snapshot", b"apiKey=secret&n=%d" % n)
    assert len(routes.known) <= 2_048
    assert b"secret" not in b"".join(path + query for path, query in routes.known)


AWKWARD = st.text(alphabet="/.%2eEfF5cC30;:,\\?#&= av13X\x00\xff", max_size=30)


@given(head=st.sampled_from(["", "/", "/v3/", "/api/massive/v3/"]), path=AWKWARD, query=AWKWARD)
@example(head="/v3/", path="a", query="=")
def test_whatever_arrives_stays_inside_the_allow_list_or_is_refused(
    head: str, path: str, query: str
) -> None:
    """W-42: decoded once more, by any reader, what passes still cannot leave its prefix."""
    try:
        seen = target(head + path, query)
    except RequestError:
        return

    assert seen.path.startswith(("/v1/", "/v2/", "/v3/", "/vX/"))
    assert (head + path).endswith(seen.path)
    segments = seen.plain_path.split("/")[1:]
    assert all(segments[:-1]), "an empty segment"
    assert not any(segment and not segment.strip(".") for segment in segments)
    assert not set(seen.plain_path) & set("\\%?#; \x00\xff")


@given(pairs=st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=5))
def test_any_parameters_written_in_two_ways_share_a_key(pairs: list[tuple[str, str]]) -> None:
    plain = "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in pairs)
    other = "&".join(f"{quote(name, safe='')}={quote(value, safe=':')}" for name, value in pairs)

    try:
        key = target("/v3/snapshot", plain).key
    except InvalidRequest:
        with pytest.raises(InvalidRequest):
            target("/v3/snapshot", other)
    else:
        assert key == target("/v3/snapshot", other).key
