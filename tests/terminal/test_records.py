import csv
import io
from typing import Any

import msgspec

from onetape.client import Gap, Reason
from onetape.client._notices import Key, Kind
from onetape.model import Quote
from onetape.provenance import Quality, Source
from onetape.rows import Rows, SymbolFault
from onetape.terminal.columns import COLUMNS
from onetape.terminal.records import csv_of, json_of

NOW = 1_795_194_000_123_456_789
COMMON: dict[str, Any] = {"received_ns": NOW, "provider": "massive"}
SPY = Quote(symbol="SPY", event_ns=NOW, bid=1.5, simulated=True, **COMMON)


def decoded(value: object) -> Any:
    return msgspec.json.decode(json_of(value, now_ns=NOW))


def test_json_has_the_models_fields_and_every_instant_twice() -> None:
    quote = decoded(SPY)

    assert (quote["type"], quote["bid"], quote["ask"]) == ("quote", 1.5, None)
    assert (quote["source"], quote["simulated"]) == ("stream", True)
    assert quote["event_ns"] == NOW
    assert quote["event_time"] == "2026-11-20T17:00:00.123456789Z"
    assert set(SPY.__struct_fields__) <= quote.keys()


def test_an_instant_that_is_not_known_has_no_iso_either() -> None:
    quote = decoded(Quote(symbol="SPY", event_ns=None, **COMMON))

    assert (quote["event_ns"], quote["event_time"]) == (None, None)


def test_a_quality_reads_as_it_is_now() -> None:
    quality = Quality(provider="massive", source=Source.REST, received_ns=NOW)
    quote = decoded(msgspec.structs.replace(SPY, quality=quality))

    assert (quote["quality"]["confidence"], quote["quality"]["level"]) == (100, "excellent")


def test_rows_mappings_and_notices_are_written_by_name() -> None:
    fault = SymbolFault(symbol="X", error="not_found")
    rows = Rows([SPY], kind=Quote, errors=[fault])
    gap = Gap(
        key=Key(Kind.TRADE, "SPY"), start_ns=1, end_ns=2, reason=Reason.BRIDGE_FAILED, detail=""
    )

    document = decoded({"quotes": rows, "errors": rows.errors, "gap": gap})

    assert [quote["symbol"] for quote in document["quotes"]] == ["SPY"]
    assert document["errors"]["X"]["error"] == "not_found"
    assert document["gap"]["key"] == {"kind": "trade", "symbol": "SPY"}
    assert document["gap"]["start_time"] == "1970-01-01T00:00:00.000000001Z"


def test_csv_has_every_column_and_nothing_for_nothing() -> None:
    text = csv_of([SPY], COLUMNS[Quote], now_ns=NOW)
    (row,) = csv.DictReader(io.StringIO(text))

    assert [*row] == [column.name for column in COLUMNS[Quote]]
    assert (row["bid"], row["ask"], row["simulated"]) == ("1.5", "", "true")
    assert row["event_time"] == "2026-11-20T17:00:00.123456789Z"


def test_csv_goes_on_without_its_header() -> None:
    whole = csv_of([SPY, SPY], COLUMNS[Quote], now_ns=NOW)
    more = csv_of([SPY], COLUMNS[Quote], now_ns=NOW, has_header=False)

    assert csv_of([SPY], COLUMNS[Quote], now_ns=NOW) + more == whole
