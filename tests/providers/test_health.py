import pytest

from onetape.errors import (
    AllProvidersFailed,
    ContractNotFound,
    InvalidRequest,
    MassiveApiError,
    MaxRetriesExceeded,
    NotFound,
    OnetapeError,
    ShuttingDown,
    TradierApiError,
    UpstreamDown,
    UpstreamThrottled,
    UpstreamTimeout,
)
from onetape.providers.health import (
    UNHEALTHY_AFTER,
    HealthMeter,
    as_failure,
    is_failure,
    root_code_of,
    status_of,
)


def failing(meter: HealthMeter, times: int) -> None:
    for _ in range(times):
        meter.failed(UpstreamDown("gone"), took_s=1.0, now_ns=7)


def test_a_provider_that_was_not_asked_yet_is_well() -> None:
    health = HealthMeter("massive").health()

    assert (health.provider, health.healthy, health.status) == ("massive", True, "ok")
    assert (health.requests, health.response_time_s, health.last_success_ns) == (0, None, None)


def test_the_third_failure_in_a_row_makes_it_fail_and_one_answer_makes_it_well() -> None:
    """R222, R224."""
    meter = HealthMeter("massive")

    failing(meter, UNHEALTHY_AFTER - 1)
    assert meter.health().healthy
    failing(meter, 1)
    assert (meter.health().healthy, meter.health().status) == (False, "failing")
    assert meter.health().consecutive_errors == 3
    meter.answered(took_s=0.1, now_ns=8)

    health = meter.health()
    assert (health.healthy, health.status, health.consecutive_errors) == (True, "ok", 0)
    assert (health.requests, health.failures) == (4, 3)
    assert (health.last_success_ns, health.last_failure_ns) == (8, 7)
    assert health.last_failure == "upstream_down: gone"
    assert health.last_failure_code == "upstream_down"


def test_the_response_time_is_told_of_the_last_question_and_weighted_of_all() -> None:
    """R223."""
    meter = HealthMeter("massive")

    meter.answered(took_s=0.1, now_ns=1)
    assert meter.health().mean_response_time_s == 0.1
    meter.failed(UpstreamDown("gone"), took_s=0.6, now_ns=2)

    assert meter.health().response_time_s == 0.6
    assert meter.health().mean_response_time_s == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (UpstreamDown("gone"), True),
        (UpstreamThrottled("wait"), True),
        (MassiveApiError("gone"), True),
        (OnetapeError("?"), True),
        (ContractNotFound("none"), False),
        (NotFound("none"), False),
        (InvalidRequest("what?"), False),
        (ShuttingDown("bye"), False),
    ],
)
def test_what_is_not_there_or_was_asked_wrongly_is_no_failure(
    error: OnetapeError, counts: bool
) -> None:
    """W-59."""
    assert is_failure(error) is counts


class Refused(Exception):
    status = 429


def test_a_failure_has_its_cause_status_and_pause_in_it() -> None:
    """R264."""
    cause = UpstreamThrottled("slow down", retry_after_s=3)
    cause.__cause__ = Refused()

    failure = as_failure(cause, TradierApiError, "tradier")

    assert type(failure) is TradierApiError
    assert failure.as_dict() == {
        "code": "TRADIER_API_ERROR",
        "message": "slow down",
        "provider": "tradier",
        "status": 429,
        "retry_after_s": 3,
        "causes": [{"code": "upstream_throttled", "message": "slow down"}],
    }


def test_what_is_a_providers_failure_already_stays_what_it_is() -> None:
    failure = AllProvidersFailed("nobody")

    assert as_failure(failure, MassiveApiError, "massive") is failure


def test_without_an_answer_there_is_no_status() -> None:
    circle = UpstreamDown("gone")
    circle.__cause__ = other = OSError()
    other.__cause__ = circle

    assert status_of(UpstreamDown("gone")) is None
    assert status_of(None) is None
    assert status_of(circle) is None, "and it ends"
    assert status_of(MassiveApiError("no", status=503)) == 503


def test_a_failure_comes_down_to_the_code_beneath_the_providers() -> None:
    late = UpstreamTimeout("late")
    wrapped = MassiveApiError("x", causes=[MaxRetriesExceeded("y", causes=[late, late])])

    assert root_code_of(wrapped) == "upstream_timeout"
    assert root_code_of(late) == "upstream_timeout"
    assert root_code_of(MassiveApiError("no cause")) == "MASSIVE_API_ERROR"
    assert root_code_of(MassiveApiError("x", causes=[ValueError()])) == "MASSIVE_API_ERROR"
