from datetime import date

import numpy as np
import pytest

from onetape.simulator.seeded.instruments import listings
from onetape.simulator.seeded.levels import Levels
from onetape.simulator.seeded.memory import Memory
from onetape.simulator.seeded.paths import Path, Paths
from onetape.simulator.seeded.records import Hours
from onetape.simulator.seeded.sessions import Sessions

LISTINGS = listings()
DAY = date(2026, 6, 10)


def paths(hours: Hours) -> tuple[Sessions, Levels, Paths]:
    sessions = Sessions(hours)
    levels = Levels(seed=7, sessions=sessions)
    return (
        sessions,
        levels,
        Paths(seed=7, sessions=sessions, levels=levels, memory=Memory(50_000_000)),
    )


@pytest.mark.parametrize("hours", list(Hours))
@pytest.mark.parametrize("ticker", ["I:SPX", "I:VIX", "NVDA"])
def test_a_path_ends_where_the_day_closes(hours: Hours, ticker: str) -> None:
    sessions, levels, made = paths(hours)
    day = sessions.on(DAY)
    assert day is not None

    path = made.of(LISTINGS[ticker], day)

    close = levels.closes(ticker, LISTINGS[ticker].behaviour)[day.number]
    assert path.at(np.array([day.close_ns]))[0] == pytest.approx(close, rel=1e-3)
    assert len(path.levels) == day.seconds + 1


@pytest.mark.parametrize("ticker", ["I:SPX", "I:VIX", "NVDA"])
def test_without_a_night_a_day_begins_where_the_last_ended(ticker: str) -> None:
    sessions, _, made = paths(Hours.ALWAYS)
    day = sessions.on(DAY)
    assert day is not None

    today = made.of(LISTINGS[ticker], day)
    tomorrow = made.of(LISTINGS[ticker], sessions.days[day.number + 1])

    assert tomorrow.levels[0] == pytest.approx(today.levels[-1], rel=1e-9)


def test_a_night_leaves_a_gap() -> None:
    sessions, _, made = paths(Hours.EXCHANGE)
    day = sessions.on(DAY)
    assert day is not None
    yesterday = made.of(LISTINGS["NVDA"], sessions.days[day.number - 1])

    today = made.of(LISTINGS["NVDA"], day)

    assert abs(today.levels[0] / yesterday.levels[-1] - 1) > 1e-4


@pytest.mark.parametrize("hours", list(Hours))
def test_vix_falls_within_the_day_when_the_market_rises(hours: Hours) -> None:
    sessions, _, made = paths(hours)
    day = sessions.on(DAY)
    assert day is not None
    minutes = slice(None, None, 60)

    market = np.diff(made.of(LISTINGS["I:SPX"], day).levels[minutes])
    vix = np.diff(made.of(LISTINGS["I:VIX"], day).levels[minutes])

    assert np.corrcoef(market, vix)[0, 1] < -0.6


def test_noon_is_quieter_than_the_open() -> None:
    sessions, _, made = paths(Hours.EXCHANGE)
    day = sessions.on(DAY)
    assert day is not None
    steps = np.abs(np.diff(np.log(made.of(LISTINGS["I:SPX"], day).levels)))
    opened = made.activity(day).open_second

    assert steps[opened : opened + 1800].mean() > 1.3 * steps[opened + 10_800 :][:1800].mean()
    assert steps[:opened].mean() < 0.5 * steps[opened : opened + 1800].mean()


def test_between_seconds_a_path_is_straight() -> None:
    path = Path(0, np.array([10.0, 20.0, 15.0]))
    times = np.array([0, 500_000_000, 1_000_000_000, 1_500_000_000, 9_000_000_000])

    assert path.at(times)[:4].tolist() == [10.0, 15.0, 20.0, 17.5]
    assert path.size_bytes == 24
