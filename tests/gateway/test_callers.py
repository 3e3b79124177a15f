from typing import Any

import pytest
from hypothesis import given, strategies as st

from onetape.errors import InvalidRequest
from onetape.gateway.callers import Caller, Callers, takes_gzip

Headers = list[tuple[bytes, bytes]]


def caller(
    headers: Headers,
    *,
    trusted: tuple[str, ...] = (),
    peer: str = "192.0.2.7",
    scheme: str = "http",
    server: tuple[str, int] | None = ("127.0.0.1", 3000),
) -> Caller:
    scope: dict[str, Any] = {
        "headers": headers,
        "client": (peer, 5555) if peer else None,
        "scheme": scheme,
        "server": server,
    }
    return Callers(trusted).of(scope)


def test_the_origin_is_the_one_the_client_called() -> None:
    seen = caller([(b"host", b"tape.example:8443")], scheme="https")

    assert seen == Caller("192.0.2.7", "https://tape.example:8443", takes_gzip=False)


@pytest.mark.parametrize(
    "host", ["localhost", "my_gateway:3000", "10.0.0.1", "[::1]:3000", "[::1]"]
)
def test_names_and_addresses_are_hosts(host: str) -> None:
    assert caller([(b"host", host.encode())]).origin == f"http://{host}"


@pytest.mark.parametrize(
    "host",
    [
        "",
        " ",
        "a b",
        "a/b",
        "a@b",
        'a"b',
        "a\\b",
        "a:b",
        "a:123456",
        "[::1",
        "-a",
        "a\r\nb",
        "a,b",
        "\xe9",
    ],
)
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(InvalidRequest):
        caller([(b"host", host.encode("latin-1"))])


def test_two_hosts_are_refused() -> None:
    with pytest.raises(InvalidRequest):
        caller([(b"host", b"a"), (b"host", b"b")])


def test_without_a_host_the_sockets_own_name_stands_in() -> None:
    assert caller([]).origin == "http://127.0.0.1:3000"
    assert caller([], server=("::1", 3000)).origin == "http://[::1]:3000"
    with pytest.raises(InvalidRequest):
        caller([], server=None)


FORWARDED: Headers = [
    (b"host", b"inner:3000"),
    (b"x-forwarded-for", b"203.0.113.9, 198.51.100.4, 10.0.0.2"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"tape.example"),
]


def test_a_stranger_is_not_believed_about_who_it_is() -> None:
    assert caller(FORWARDED) == Caller("192.0.2.7", "http://inner:3000", takes_gzip=False)


def test_a_trusted_proxy_tells_the_nearest_client_and_the_name_it_called() -> None:
    seen = caller(FORWARDED, trusted=("10.0.0.0/8",), peer="10.0.0.1")

    assert seen == Caller("198.51.100.4", "https://tape.example", takes_gzip=False)


def test_a_chain_of_trusted_proxies_ends_at_its_first() -> None:
    headers = [(b"host", b"inner"), (b"x-forwarded-for", b"10.0.0.9, 10.0.0.2")]

    assert caller(headers, trusted=("10.0.0.0/8",), peer="10.0.0.1").peer == "10.0.0.9"


def test_of_a_chain_only_what_the_nearest_proxy_wrote_counts() -> None:
    headers = [
        (b"host", b"inner"),
        (b"x-forwarded-host", b"evil.example, tape.example"),
        (b"x-forwarded-proto", b"https, ftp"),
    ]

    assert caller(headers, trusted=("10.0.0.1",), peer="10.0.0.1").origin == "http://tape.example"


def test_a_peer_without_an_address_is_nobody_special() -> None:
    assert caller(FORWARDED, trusted=("10.0.0.0/8",), peer="").peer == ""


@pytest.mark.parametrize(
    ("header", "takes"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("deflate, gzip;q=1.0, *;q=0.5", True),
        ("br;q=1.0, gzip; q=0.001", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000, *", False),
        ("*", True),
        ("*;q=0", False),
        ("identity, br", False),
        ("x-gzip", False),
    ],
)
def test_gzip_is_sent_to_who_takes_it(header: str, takes: bool) -> None:
    assert takes_gzip(header.encode()) is takes


def test_codings_in_several_headers_are_one_list() -> None:
    headers = [(b"host", b"a"), (b"accept-encoding", b"br"), (b"accept-encoding", b"gzip")]

    assert caller(headers).takes_gzip


@given(host=st.binary(max_size=20), forwarded=st.binary(max_size=20))
def test_whatever_a_header_says_the_origin_is_one_json_string(
    host: bytes, forwarded: bytes
) -> None:
    headers = [(b"host", host), (b"x-forwarded-for", forwarded), (b"x-forwarded-host", forwarded)]

    try:
        origin = caller(headers, trusted=("10.0.0.1",), peer="10.0.0.1").origin
    except InvalidRequest:
        return

    assert origin.isascii()
    assert origin.isprintable()
    assert not set(origin) & set('"\\ ,@')
