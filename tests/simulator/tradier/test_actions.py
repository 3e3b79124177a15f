from typing import get_args

import pytest

from onetape.simulator.actions import Stage, StreamAction
from onetape.simulator.tradier.actions import STAGES, Fail, Shape, TradierStreamActions


@pytest.mark.parametrize("action", get_args(TradierStreamActions), ids=lambda cls: cls.__name__)
def test_every_action_of_the_stream_can_strike_somewhere(action: type[StreamAction]) -> None:
    assert action.stages[0] in STAGES


def test_a_stream_of_tradiers_has_no_login() -> None:
    assert not {Stage.GREETED, Stage.AUTH, Stage.AUTHENTICATED} & set(STAGES)


def test_a_failure_has_a_status_that_exists() -> None:
    assert Fail(status=504).status == 504
    with pytest.raises(ValueError, match="299"):
        Fail(status=299)


def test_a_shape_changes_nothing_by_default() -> None:
    assert (Shape().items, Shape().nan) == (None, False)
