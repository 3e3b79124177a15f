from typing import get_args

import pytest

from onetape.simulator.actions import (
    Answer,
    RestActions,
    SharedRestActions,
    Stage,
    StreamActions,
)


def test_every_action_has_a_word_of_its_own_on_each_wire() -> None:
    for union in (StreamActions, RestActions):
        tags = [action.__struct_config__.tag for action in get_args(union)]
        assert len(tags) == len(set(tags))


def test_both_vendors_rest_suffers_everything_but_the_first_vendors_error_shapes() -> None:
    assert set(get_args(RestActions)) - set(get_args(SharedRestActions)) == {Answer}


@pytest.mark.parametrize("action", get_args(StreamActions), ids=lambda cls: cls.__name__)
def test_every_stream_action_has_a_stage(action: type[StreamActions]) -> None:
    assert set(action.stages) <= set(Stage)
    assert action.stages
