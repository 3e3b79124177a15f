import pytest

from onetape.config import load
from onetape.errors import ConfigInvalid
from onetape.setting_table import describe
from onetape.settings import Config, Origin


def test_every_default_is_a_value_that_could_be_set() -> None:
    for row in describe(Config()):
        if row.value and not row.default.count(" "):
            assert load({row.variable: row.value}).origins == {row.variable: Origin.ENVIRONMENT}


def test_the_watchlist_is_kept_in_the_vendors_spelling() -> None:
    config = load({"ONETAPE_WATCHLIST": "spy,SPX,$SPX,brk/b"})

    assert config.hub.watchlist == ("SPY", "I:SPX", "BRK.B")


def test_a_watchlist_of_what_is_no_symbol_is_refused() -> None:
    with pytest.raises(ConfigInvalid, match="ONETAPE_WATCHLIST"):
        load({"ONETAPE_WATCHLIST": "SPY,*"})
