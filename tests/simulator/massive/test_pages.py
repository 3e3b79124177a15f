import base64
import contextlib
from urllib.parse import parse_qsl

import pytest
from hypothesis import given, strategies as st

from onetape.simulator.massive.pages import (
    InvalidCursor,
    decode_cursor,
    encode_cursor,
    key_at,
    page_of,
    position_at,
)

names = st.text(min_size=1, max_size=8)
queries = st.dictionaries(names.filter(lambda name: name not in {"ap", "cursor", "apiKey"}), names)
rows = st.lists(st.tuples(st.floats(0, 99), st.text("ABC", max_size=4)), unique=True, max_size=40)


def test_a_cursor_is_the_whole_query_and_the_position_in_base64url_without_padding() -> None:
    cursor = encode_cursor({"limit": "2", "sort": "asc"}, "7")

    assert "=" not in cursor
    text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    assert parse_qsl(text) == [("ap", "7"), ("limit", "2"), ("sort", "asc")]


def test_a_cursor_without_a_position_reads_as_the_vendors_own_sample() -> None:
    assert encode_cursor({"limit": "2", "sort": "asc"}, None) == "bGltaXQ9MiZzb3J0PWFzYw"


def test_a_cursor_never_carries_the_key_nor_the_cursor_before_it() -> None:
    cursor = encode_cursor({"apiKey": "k", "cursor": "c", "ap": "0", "limit": "1"}, "5")

    assert decode_cursor(cursor) == {"ap": "5", "limit": "1"}


@given(queries, st.none() | names)
def test_a_cursor_gives_back_what_it_was_made_of(
    query: dict[str, str], position: str | None
) -> None:
    expected = query if position is None else {**query, "ap": position}

    assert decode_cursor(encode_cursor(query, position)) == expected


@given(st.text(max_size=40))
def test_whatever_is_not_a_cursor_is_refused_or_read_but_never_breaks(text: str) -> None:
    with contextlib.suppress(InvalidCursor):
        decode_cursor(text)


@pytest.mark.parametrize("text", ["ä", "a", "//8", "YQ", "____"])
def test_a_string_that_no_cursor_looks_like_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(text)


@given(rows, st.integers(1, 45), st.booleans())
def test_pages_of_any_size_concatenate_to_the_sorted_rows(
    rows: list[tuple[float, str]], limit: int, descending: bool
) -> None:
    """Nothing missing, nothing twice, no empty page at the end."""
    seen: list[tuple[float, str]] = []
    position, pages = None, 0
    while pages == 0 or position is not None:
        page = page_of(
            rows, key=lambda row: row, limit=limit, position=position, descending=descending
        )
        seen += page.rows
        position, pages = page.position, pages + 1
        assert len(page.rows) <= limit
        assert page.rows or pages == 1

    assert seen == sorted(rows, reverse=descending)


def test_rows_that_come_and_go_between_pages_disturb_no_other() -> None:
    first = page_of("ACEG", key=lambda row: (row,), limit=2, position=None)
    second = page_of("BDEFG", key=lambda row: (row,), limit=9, position=first.position)

    assert (first.rows, second.rows) == (["A", "C"], ["D", "E", "F", "G"])


def test_a_position_keeps_its_types() -> None:
    assert key_at(position_at((650.0, 3, "O:A")), like=(1.0, 1, "")) == (650.0, 3, "O:A")


@pytest.mark.parametrize("position", ["", "{}", "[1]", '["a",2]', "[null]", "7"])
def test_a_position_of_another_shape_is_refused(position: str) -> None:
    with pytest.raises(InvalidCursor):
        page_of([(1.0, "A")], key=lambda row: row, limit=1, position=position)


def test_an_empty_list_has_one_empty_page() -> None:
    assert page_of((), key=lambda row: (row,), limit=3, position="[1]") == ([], None)
