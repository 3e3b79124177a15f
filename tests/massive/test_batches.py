"""R157, W-20: partial answers, told per symbol, at a bounded number of requests."""

import asyncio
from collections.abc import Mapping

import pytest
from hypothesis import given, strategies as st

from onetape.errors import (
    InvalidRequest,
    MassiveApiError,
    UpstreamDown,
    UpstreamError,
    UpstreamForbidden,
    UpstreamThrottled,
    UpstreamTimeout,
)
from onetape.massive.batches import ANY_OF, SINGLES, all_of, in_batches
from onetape.model import Quote
from onetape.providers.health import status_of
from onetape.rows import Rows, SymbolFault


def quote(symbol: str) -> Quote:
    return Quote(symbol=symbol, event_ns=1, received_ns=1, provider="massive", simulated=True)


class Asked:
    """Answers for every symbol but those that it has something against."""

    def __init__(
        self,
        *,
        poison: Mapping[str, UpstreamError] | None = None,
        unknown: frozenset[str] = frozenset(),
        silent: frozenset[str] = frozenset(),
        chunks: UpstreamError | None = None,
    ) -> None:
        self.chunks: list[tuple[str, ...]] = []
        self.most_at_once = 0
        self._at_once = 0
        self._poison = poison or {}
        self._unknown = unknown
        self._silent = silent
        self._of_many = chunks

    async def __call__(self, symbols: tuple[str, ...]) -> Rows[Quote]:
        self.chunks.append(symbols)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await asyncio.sleep(0)
        self._at_once -= 1
        if self._of_many is not None and len(symbols) > 1:
            raise self._of_many
        for symbol in symbols:
            if symbol in self._poison:
                raise self._poison[symbol]
        left_out = self._unknown | self._silent
        return Rows(
            [quote(symbol) for symbol in symbols if symbol not in left_out],
            kind=Quote,
            errors=[
                SymbolFault(symbol=symbol, error="not_found", message="Ticker not found.")
                for symbol in symbols
                if symbol in self._unknown
            ],
            simulated=True,
        )


def names(count: int) -> tuple[str, ...]:
    return tuple(f"S{at}" for at in range(count))


async def test_many_symbols_go_in_chunks_of_what_the_vendor_takes() -> None:
    asked = Asked()

    rows = await in_batches(names(2 * ANY_OF + 1), asked, kind=Quote)

    assert [row.symbol for row in rows] == list(names(2 * ANY_OF + 1))
    assert [len(chunk) for chunk in asked.chunks] == [ANY_OF, ANY_OF, 1]
    assert rows.simulated


async def test_nothing_is_asked_for_nothing() -> None:
    asked = Asked()

    assert await in_batches((), asked, kind=Quote) == ()
    assert asked.chunks == []


async def test_one_bad_symbol_does_not_fail_the_rest() -> None:
    asked = Asked(poison={"S3": UpstreamDown("ouch")})

    rows = await in_batches(names(20), asked, kind=Quote)

    assert len(rows) == 19
    assert {name: fault.error for name, fault in rows.errors.items()} == {"S3": "upstream_down"}
    assert asked.most_at_once <= SINGLES


async def test_two_that_fail_alike_speak_for_all() -> None:
    asked = Asked(poison={name: UpstreamDown("maintenance") for name in names(100)})

    rows = await in_batches(names(100), asked, kind=Quote)

    assert set(rows.errors) == set(names(100))
    assert {fault.message for fault in rows.errors.values()} == {"maintenance"}
    assert len(asked.chunks) == 3, "the chunk, the first and the last"


async def test_two_that_fail_otherwise_speak_for_themselves() -> None:
    asked = Asked(poison={"S0": UpstreamDown("ouch"), "S4": UpstreamTimeout("…")})

    rows = await in_batches(names(5), asked, kind=Quote)

    assert [row.symbol for row in rows] == ["S1", "S2", "S3"]
    assert {name: fault.error for name, fault in rows.errors.items()} == {
        "S0": "upstream_down",
        "S4": "upstream_timeout",
    }


async def test_the_ends_of_a_failed_chunk_may_be_unknown_while_the_others_are_not() -> None:
    """That the first and the last symbol do not exist says nothing of those between."""
    asked = Asked(chunks=UpstreamDown("too many"), unknown=frozenset({"S0", "S4"}))

    rows = await in_batches(names(5), asked, kind=Quote)

    assert [row.symbol for row in rows] == ["S1", "S2", "S3"]
    assert {fault.error for fault in rows.errors.values()} == {"not_found"}


async def test_the_ends_of_a_failed_chunk_may_be_left_out_of_the_answer() -> None:
    asked = Asked(chunks=UpstreamDown("too many"), silent=frozenset({"S0", "S2"}))

    rows = await in_batches(names(3), asked, kind=Quote)

    assert [row.symbol for row in rows] == ["S1"]
    assert rows.errors["S0"].error == "not_found"


@pytest.mark.parametrize("error", [UpstreamForbidden("plan"), UpstreamThrottled("slow down")])
async def test_what_is_no_symbols_fault_is_asked_once(error: UpstreamError) -> None:
    asked = Asked(chunks=error)

    rows = await in_batches(names(5), asked, kind=Quote)

    assert len(asked.chunks) == 1
    assert {fault.error for fault in rows.errors.values()} == {error.code}


async def test_asked_strictly_a_failure_of_all_is_raised() -> None:
    error = UpstreamThrottled("slow down", retry_after_s=3)

    with pytest.raises(UpstreamThrottled) as caught:
        await in_batches(names(5), Asked(chunks=error), kind=Quote, strictly=True)

    assert caught.value is error, "with what it knows"


async def test_asked_strictly_what_is_left_is_an_answer() -> None:
    some = Asked(poison={"S0": UpstreamDown("ouch")})
    none = Asked(chunks=UpstreamDown("once"), unknown=frozenset(names(2)))

    assert len(await in_batches(names(5), some, kind=Quote, strictly=True)) == 4
    assert await in_batches(names(2), none, kind=Quote, strictly=True) == (), "they do not exist"


async def test_asked_strictly_a_refusal_of_every_row_is_raised() -> None:
    async def refuse(symbols: tuple[str, ...]) -> Rows[Quote]:
        faults = [SymbolFault(symbol=one, error="upstream_forbidden") for one in symbols]
        return Rows(kind=Quote, errors=faults)

    with pytest.raises(UpstreamForbidden):
        await in_batches(names(2), refuse, kind=Quote, strictly=True)


async def test_a_callers_mistake_is_raised_as_it_is() -> None:
    async def refuse(_symbols: tuple[str, ...]) -> Rows[Quote]:
        raise InvalidRequest("what?")

    with pytest.raises(InvalidRequest):
        await in_batches(names(2 * ANY_OF), refuse, kind=Quote)


async def test_the_first_failure_ends_the_others() -> None:
    ended: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("waits")

    async def fails() -> None:
        raise InvalidRequest("what?")

    with pytest.raises(InvalidRequest):
        await all_of([waits(), fails()])
    assert ended == ["waits"]


async def test_what_caused_the_first_failure_stays_beneath_it() -> None:
    """R264: the status is there."""

    async def fails() -> None:
        raise UpstreamDown("gone") from MassiveApiError("no", status=503)

    with pytest.raises(UpstreamDown) as caught:
        await all_of([fails()])
    assert status_of(caught.value) == 503


places = st.frozensets(st.integers(0, 9))


@given(poison=places, unknown=places)
async def test_every_symbol_has_a_row_or_an_error(
    poison: frozenset[int], unknown: frozenset[int]
) -> None:
    symbols = names(10)
    asked = Asked(
        poison={f"S{at}": UpstreamDown(f"S{at}") for at in poison},
        unknown=frozenset(f"S{at}" for at in unknown),
    )

    rows = await in_batches(symbols, asked, kind=Quote)

    assert {row.symbol for row in rows} | set(rows.errors) == set(symbols)
    assert {row.symbol for row in rows}.isdisjoint(rows.errors)
    if not {0, 9} <= poison:
        healthy = {f"S{at}" for at in range(10)} - {f"S{at}" for at in poison | unknown}
        assert {row.symbol for row in rows} == healthy
