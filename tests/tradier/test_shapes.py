"""One, many, none and unreadable rows, as Tradier's JSON has them."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from onetape.errors import UpstreamGarbled
from onetape.rows import SymbolFault
from onetape.tradier.shapes import (
    RowReader,
    is_none,
    malformed,
    opened,
    root_of,
    texts_of,
    unmatched,
)


class Row(msgspec.Struct):
    symbol: str
    size: float = 0


READER = RowReader(Row, "symbol")


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(value if isinstance(value, bytes) else msgspec.json.encode(value))


def read(value: Any) -> tuple[list[str], list[str]]:
    faults: list[SymbolFault] = []
    rows = READER.read(raw(value), faults)
    return [row.symbol for row in rows], [fault.symbol for fault in faults]


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        (None, []),
        ("null", []),
        ("", []),
        ([], []),
        ({"symbol": "A"}, ["A"]),
        ([{"symbol": "A"}], ["A"]),
        ([{"symbol": "A", "new": {"key": [1]}}, {"symbol": "B"}], ["A", "B"]),
    ],
)
def test_one_many_and_none_are_rows(value: Any, rows: list[str]) -> None:
    """R213."""
    assert read(value) == (rows, [])


def test_a_bad_row_is_named_and_the_others_stand() -> None:
    mixed = (
        b'[{"symbol":"A"},{"symbol":"BRK/B","size":"x"},{"size":1},7,{"symbol":3},{"symbol":"C"}]'
    )

    assert read(mixed) == (["A", "C"], ["BRK.B", "", "", ""])
    assert read(b'{"symbol":"B","size":1e999}') == ([], ["B"])
    assert READER.read(None, []) == []


def test_the_member_of_an_answer_is_found_or_the_answer_is_garbled() -> None:
    assert bytes(root_of(b'{"options": null}', "options")) == b"null"
    for body in (b"{}", b"<html>", b'{"options":', b"[]", b"\xff"):
        with pytest.raises(UpstreamGarbled):
            root_of(body, "options")


def test_nothing_opens_as_an_empty_object() -> None:
    for value in (None, "null", ""):
        assert opened(raw(value), "options") == {}
        assert is_none(raw(value))
    assert is_none(None)
    assert set(opened(raw({"a": 1}), "options")) == {"a"}
    with pytest.raises(UpstreamGarbled):
        opened(raw([1]), "options")


def test_texts_are_one_or_many() -> None:
    assert texts_of(raw("ZZZ")) == ["ZZZ"]
    assert texts_of(raw(["A", "B"])) == ["A", "B"]
    assert texts_of(raw(None)) == texts_of(None) == texts_of(raw([1])) == []


def test_faults_name_our_symbol_and_a_public_code() -> None:
    assert (unmatched("BRK/B").symbol, unmatched("BRK/B").error) == ("BRK.B", "not_found")
    assert malformed("SPX").symbol == "I:SPX"
    assert malformed("?" * 99).symbol == "?" * 40
    assert malformed("").error == "upstream_garbled"


@given(st.binary(max_size=80))
def test_any_bytes_are_rows_faults_or_garbled(body: bytes) -> None:
    faults: list[SymbolFault] = []
    try:
        inside = opened(root_of(body, "quotes"), "quotes")
        READER.read(inside.get("quote"), faults)
    except UpstreamGarbled:
        pass
