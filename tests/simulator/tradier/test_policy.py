import msgspec
import pytest

from onetape.simulator.tradier.policy import TradierPolicy


def test_the_defaults_are_those_of_production() -> None:
    policy = TradierPolicy()

    assert (policy.sandbox, policy.calls_per_minute, policy.session_ttl_s) == (False, 120, 300)
    assert (policy.resend_s, policy.idle_close_s) == (20, 900)


@pytest.mark.parametrize("field", [b'{"calls_per_minute":0}', b'{"nothing":"maybe"}', b'{"x":1}'])
def test_a_habit_that_cannot_be_meant_is_refused(field: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(field, type=TradierPolicy)
