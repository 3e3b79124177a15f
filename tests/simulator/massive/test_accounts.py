from itertools import pairwise

import pytest

from onetape.model import AssetClass
from onetape.simulator.massive.accounts import (
    ADVANCED,
    BASIC,
    BUSINESS,
    DELAY_NS,
    DEVELOPER,
    STARTER,
    Account,
    Accounts,
    DataType,
    Plan,
    Tier,
    sample_accounts,
)

TIERS = [BASIC, STARTER, DEVELOPER, ADVANCED, BUSINESS]


def test_the_simulators_own_key_may_see_everything() -> None:
    account = Accounts().find("sim-key")

    assert account is not None
    assert account.plan.calls_per_minute is None
    assert all(account.plan.includes(asset, data) for asset in AssetClass for data in DataType)


def test_two_keys_of_one_account_are_one_customer() -> None:
    accounts = Accounts()

    assert accounts.find("sim-key") is accounts.find("sim-key-2")


def test_an_unknown_key_belongs_to_nobody() -> None:
    assert Accounts().find("other") is None
    assert Accounts([]).find("sim-key") is None


def test_every_sample_is_found_by_each_of_its_keys() -> None:
    accounts = Accounts()
    keys = [(key, account) for account in sample_accounts() for key in account.keys]

    assert len(keys) == len({key for key, _ in keys})
    assert all(accounts.find(key) == account for key, account in keys)


@pytest.mark.parametrize(("worse", "better"), list(pairwise(TIERS)))
def test_a_dearer_tier_includes_what_a_cheaper_one_does(worse: Tier, better: Tier) -> None:
    assert worse.data < better.data or worse is BASIC


@pytest.mark.parametrize(
    ("tier", "channels"),
    [
        (BASIC, ""),
        (STARTER, "A AM V"),
        (DEVELOPER, "A AM V T"),
        (ADVANCED, "A AM V T Q LULD NOI"),
        (BUSINESS, "A AM V T Q LULD NOI FMV"),
    ],
)
def test_a_tier_admits_the_channels_of_its_data(tier: Tier, channels: str) -> None:
    known = ["A", "AM", "V", "T", "Q", "LULD", "NOI", "FMV", "LV", "XT"]

    assert [channel for channel in known if tier.admits_channel(channel)] == channels.split()


def test_quotes_are_not_streamed_late() -> None:
    late = Tier(name="late", freshness=STARTER.freshness, data=ADVANCED.data)

    assert not late.admits_channel("Q")
    assert late.admits_channel("T")


def test_delayed_tiers_say_so() -> None:
    assert (STARTER.timeframe, STARTER.delay_ns) == ("DELAYED", DELAY_NS)
    assert (ADVANCED.timeframe, ADVANCED.delay_ns) == ("REAL-TIME", 0)
    assert BASIC.is_delayed


def test_one_unlimited_product_lifts_the_accounts_limit() -> None:
    both = Plan(tiers={AssetClass.STOCKS: BASIC, AssetClass.OPTIONS: STARTER})

    assert Plan.everywhere(BASIC).calls_per_minute == 5
    assert both.calls_per_minute is None
    assert Plan(tiers={}).calls_per_minute is None


def test_reference_data_is_in_every_plan() -> None:
    nothing = Plan(tiers={})

    assert nothing.includes(AssetClass.OPTIONS, DataType.REFERENCE)
    assert not nothing.includes(AssetClass.OPTIONS, DataType.AGGREGATES)
    assert nothing.tier(AssetClass.OPTIONS) is None


def test_a_socket_needs_a_product_of_its_asset_class_that_has_sockets() -> None:
    account = Account(
        name="a",
        keys=frozenset({"k"}),
        plan=Plan(tiers={AssetClass.STOCKS: BASIC, AssetClass.OPTIONS: STARTER}),
    )

    admitted = [asset for asset in AssetClass if account.plan.admits_socket(asset)]
    assert admitted == [AssetClass.OPTIONS]
