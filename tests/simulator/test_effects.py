from typing import get_args

from onetape.simulator.effects import Effect, SessionId


def test_every_effect_names_whom_it_is_for_first() -> None:
    for effect in get_args(Effect):
        assert effect._fields[0] == "session"
        assert SessionId(7) == 7
