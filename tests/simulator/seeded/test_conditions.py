from onetape.model import AssetClass
from onetape.simulator.seeded.conditions import BY_ID, CONDITIONS, EXCHANGES, MULTI_LEG
from onetape.simulator.seeded.tape import CODES


def test_ids_of_conditions_are_unique_and_in_order() -> None:
    ids = [condition.id for condition in CONDITIONS]

    assert len(BY_ID) == len(ids)
    for asset in AssetClass:
        mine = [condition.id for condition in CONDITIONS if condition.asset is asset]
        assert mine == sorted(mine)


def test_option_conditions_are_in_the_two_hundreds_with_an_opra_code_each() -> None:
    options = [condition for condition in CONDITIONS if condition.asset is AssetClass.OPTIONS]

    assert all(200 <= condition.id < 300 for condition in options)
    assert len({condition.sip_mapping["OPRA"] for condition in options}) == len(options)
    assert {condition.id for condition in options if condition.confirmed} == {209, 227, 233}


def test_a_cancelled_trade_updates_nothing_and_an_odd_lot_only_volume() -> None:
    assert not any((BY_ID[201].updates_volume, BY_ID[201].updates_high_low))
    assert BY_ID[37].updates_volume
    assert not BY_ID[37].updates_open_close


def test_what_the_tapes_carry_is_in_the_table() -> None:
    assert all(code in BY_ID for codes in CODES for code in codes)
    assert all(BY_ID[code].asset is AssetClass.OPTIONS for code in MULTI_LEG)


def test_only_the_trade_reporting_facilities_share_an_id() -> None:
    shared = [exchange for exchange in EXCHANGES if exchange.id == 4]
    others = [exchange.id for exchange in EXCHANGES if exchange.id != 4]

    assert {exchange.type for exchange in shared} == {"TRF"}
    assert len(set(others)) == len(others)


def test_option_exchange_ids_follow_the_participants_letters() -> None:
    for exchange in EXCHANGES:
        if exchange.asset is AssetClass.OPTIONS:
            assert exchange.participant_id is not None
            assert exchange.id == 300 + ord(exchange.participant_id) - ord("A")
