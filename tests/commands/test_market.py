"""The commands that ask once, as `main` runs them, against a gateway of the simulator."""

import asyncio
import contextlib
import csv
import io
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import msgspec
import pytest

from onetape import calendar
from onetape.cli import main
from onetape.clock import SystemClock
from onetape.gateway.app import Gateway
from onetape.model import Bar, OptionSnapshot, Quote, Trade
from onetape.simulator.app import Simulator
from onetape.terminal.columns import COLUMNS
from onetape.testing import Playground

IMPORTED = (Gateway, Simulator)  # in the loop an import would block
TODAY = calendar.new_york_date(SystemClock().now_ns())
SOONEST = calendar.next_session(TODAY)
DAY = calendar.previous_session(TODAY)


class Venue(NamedTuple):
    """A gateway in a thread of its own: the commands have loops of theirs."""

    url: str
    key: str
    revoked: str
    simulator: str


@contextlib.contextmanager
def opened(state_dir: Path) -> Generator[Venue]:
    found: list[Venue] = []
    ready, stops = threading.Event(), list[Callable[[], object]]()

    async def run() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        stops.append(lambda: loop.call_soon_threadsafe(stop.set))
        async with Playground(state_dir) as play:
            keys = [await play.key(), await play.key()]
            await play.revoke(keys[1])
            found.append(Venue(play.gateway.url, keys[0], keys[1], play.simulator.url))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert ready.wait(30)
    try:
        yield found[0]
    finally:
        stops[0]()
        thread.join()


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Venue]:
    with opened(tmp_path_factory.mktemp("state")) as found:
        yield found


Ask = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def ask(
    venue: Venue,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Ask:
    """Run a command with the gateway's address and key in the environment."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        settings = {"ONETAPE_URL": venue.url, "ONETAPE_KEY": venue.key, **variables}
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            patch.setattr(sys, "argv", ["onetape", *arguments])
            for name, value in settings.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                main()
        out, err = capfd.readouterr()
        assert venue.key not in out + err
        return subprocess.CompletedProcess(arguments, int(ended.value.code or 0), out, err)

    return run


def document(done: subprocess.CompletedProcess[str]) -> Any:
    """The one document of a command that went well."""
    assert (done.returncode, done.stderr) == (0, ""), done
    (line,) = done.stdout.splitlines()
    return msgspec.json.decode(line)


def records(done: subprocess.CompletedProcess[str], kind: type) -> list[dict[str, str]]:
    """The rows of a command that printed CSV."""
    assert (done.returncode, done.stderr) == (0, ""), done
    rows = csv.DictReader(io.StringIO(done.stdout))
    assert rows.fieldnames == [column.name for column in COLUMNS[kind]]
    return [*rows]


def complaint(done: subprocess.CompletedProcess[str], status: int) -> str:
    """The one line of a command that could not."""
    assert (done.returncode, done.stdout) == (status, ""), done
    (line,) = done.stderr.splitlines()
    return line


# quote


def test_quotes_are_shown_with_what_is_missing_beside_them(ask: Ask) -> None:
    done = ask("quote", "SPY", "SPX", "NOSUCH")
    heading, titles, spy, spx = done.stdout.splitlines()

    assert done.returncode == 1
    assert done.stderr == "onetape: NOSUCH: not_found: Ticker not found.\n"
    assert re.fullmatch(
        r"Quotes   2   \d\d:\d\d:\d\d E[SD]T   massive, rest   SIMULATED: no number.*", heading
    )
    assert titles.startswith("Symbol      Last  Change  Change %     Bid     Ask  Bid size")
    assert re.match(r"SPY +\d{3}\.\d\d +[-+]\d+\.\d\d ", spy)
    assert re.match(r"I:SPX +\d,\d{3}\.\d\d +\S+ +\S+ +- +- +- +- ", spx)
    assert "\x1b" not in done.stdout


def test_quotes_for_programs(ask: Ask) -> None:
    found = document(ask("quote", "spy", "SPX", "--json"))
    rows = records(ask("quote", "spy", "SPX", "--csv"), Quote)

    assert (found["simulated"], found["errors"]) == (True, {})
    assert [quote["symbol"] for quote in found["quotes"]] == ["SPY", "I:SPX"]
    assert [row["symbol"] for row in rows] == ["SPY", "I:SPX"]
    assert {row["simulated"] for row in rows} == {"true"}
    assert rows[1]["bid"] == ""


def test_nothing_found_is_said_on_standard_error_in_every_form(ask: Ask) -> None:
    shown, as_json = ask("quote", "NOSUCH"), ask("quote", "NOSUCH", "--json")

    assert (shown.returncode, as_json.returncode) == (1, 1)
    assert shown.stdout.count("\n") == 1
    assert msgspec.json.decode(as_json.stdout)["errors"]["NOSUCH"]["error"] == "not_found"


# chain


def test_a_chain_of_one_expiration_around_the_money(ask: Ask) -> None:
    expiration = document(ask("chain", "SPY", "--around", "0", "--json"))["contracts"][0]
    day = expiration["contract"]["expiration"]
    done = ask("chain", "SPY", "--expiration", day, "--around", "1")
    heading, blank, title, titles, *rows = done.stdout.splitlines()

    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(
        r"SPY   [\d.]+   6 contracts   .*massive, rest   quality \d+ \w+   SIMULATED", heading
    )
    assert (blank, title.startswith(f"{day}  SPY  ")) == ("", True)
    left = ["Provider", "Quality", "OI", "Volume", "IV", "Delta", "Ask", "Bid"]
    assert titles.split() == [*left, "Strike", *reversed(left)]
    assert len(rows) == 3


def test_a_chain_for_programs_has_the_soonest_expirations(ask: Ask) -> None:
    arguments = ["chain", "SPX", "--expirations", "2", "--around", "0", "--type", "call"]
    found = document(ask(*arguments, "--json"))
    rows = records(ask(*arguments, "--csv"), OptionSnapshot)

    days = [row["contract"]["expiration"] for row in found["contracts"]]
    assert (found["underlying"], found["simulated"], found["partial"]) == ("I:SPX", True, [])
    assert len({*days}) == 2
    assert [row["expiration"] for row in rows] == days
    assert {row["contract_type"] for row in rows} == {"call"}


def test_bounds_that_leave_nothing_are_said_to(ask: Ask) -> None:
    bounds = ["--min-volume", "1e9", "--max-strike", "1000", "--max-spread", "0"]
    done = ask("chain", "SPY", "--expiration", f"{SOONEST}", *bounds)

    assert done.returncode == 1
    assert done.stderr == "onetape: there are no contracts of SPY like that\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--expiration", "2026-12-18", "--expirations", "2"], "choose one"),
        (["--min-strike", "2", "--max-strike", "1"], "strikes is upside down"),
    ],
    ids=["expirations", "strikes"],
)
def test_bounds_that_make_no_sense_are_one_line(ask: Ask, arguments: list[str], said: str) -> None:
    assert said in complaint(ask("chain", "SPY", *arguments), 2)


def test_a_symbol_that_has_no_options_is_one_line(ask: Ask) -> None:
    assert "has no options" in complaint(ask("chain", "SPY261218C00650000"), 2)


# bars


def test_the_last_bars_are_shown_in_new_yorks_time(ask: Ask) -> None:
    done = ask("bars", "SPY", "--timeframe", "5min", "--lookback", "3")
    heading, titles, *rows = done.stdout.splitlines()

    assert (done.returncode, done.stderr) == (0, "")
    assert heading.startswith("SPY 5m bars   3   ")
    numbers = ["Open", "High", "Low", "Close", "Volume", "VWAP", "Trades"]
    assert titles.split() == ["Begins", *numbers, "Quality", "Provider"]
    assert all(re.match(r" *\d{4}-\d\d-\d\d \d\d:\d[05] E[SD]T  ", row) for row in rows)


def test_bars_of_an_index_have_no_volume_and_none_is_made_up(ask: Ask) -> None:
    rows = records(ask("bars", "SPX", "--timeframe", "1d", "--lookback", "2", "--csv"), Bar)

    assert [row["volume"] for row in rows] == ["", ""]


def test_a_range_begins_and_ends_in_new_york_unless_it_says_otherwise(ask: Ask) -> None:
    def begins(start: str, end: str) -> list[str]:
        found = document(ask("bars", "SPY", "--start", start, "--end", end, "--json"))
        assert (found["symbol"], found["timeframe"], found["simulated"]) == ("SPY", "1m", True)
        return [bar["event_time"] for bar in found["bars"]]

    opens = datetime.combine(DAY, time(9, 30), calendar.NEW_YORK).astimezone(UTC)
    minutes = [opens + timedelta(minutes=minute) for minute in range(3)]
    wanted = [f"{minute:%Y-%m-%dT%H:%M:00.000000000Z}" for minute in minutes]
    assert begins(f"{DAY}T09:30", f"{DAY}T09:32") == wanted
    assert begins(minutes[0].isoformat(), f"{minutes[2]:%Y-%m-%dT%H:%MZ}") == wanted


def test_a_range_that_was_cut_short_says_so(ask: Ask) -> None:
    done = ask("bars", "SPY", "--start", str(DAY), "--max-rows", "2", "--json")

    assert done.returncode == 0
    assert len(msgspec.json.decode(done.stdout)["bars"]) == 2
    assert done.stderr.startswith("onetape: stopped after 2 rows")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--end", "2026-11-20"], "--end needs a --start"),
        (["--start", "2026-11-20", "--lookback", "3"], "choose one"),
        (["--start", "yesterday"], "'yesterday' is not a day or an instant"),
        (["--timeframe", "soon"], "'soon' is not a bar length"),
    ],
    ids=["end", "both", "day", "length"],
)
def test_a_range_that_makes_no_sense_is_one_line(ask: Ask, arguments: list[str], said: str) -> None:
    assert said in complaint(ask("bars", "SPY", *arguments), 2)


def test_no_bars_at_all_are_said_to_be_none(ask: Ask) -> None:
    done = ask("bars", "NOSUCH", "--timeframe", "1d", "--csv")

    assert (done.returncode, done.stderr) == (1, "onetape: there are no bars of NOSUCH\n")
    assert done.stdout.count("\n") == 1  # the header: what reads it need not know


# trades


@pytest.fixture
def option(ask: Ask) -> str:
    """Of what the simulator trades most: near, and at the money."""
    chain = document(ask("chain", "SPY", "--around", "0", "--type", "call", "--json"))
    return chain["contracts"][0]["contract"]["symbol"]


def test_trades_are_the_last_ones_or_those_from_an_instant_on(ask: Ask, option: str) -> None:
    last = records(ask("trades", option.removeprefix("O:"), "--max-rows", "3", "--csv"), Trade)
    times = [row["event_time"] for row in last]
    since = document(ask("trades", option, "--start", times[1], "--json"))
    shown = ask("trades", option, "--max-rows", "2")

    assert len(times) == 3
    assert times == sorted(times)
    assert [one["event_time"] for one in since["trades"]][:2] == times[1:]
    assert shown.stdout.startswith(f"{option} trades   2   ")
    assert len(shown.stdout.splitlines()) == 4


def test_trades_that_go_on_are_said_to(ask: Ask, option: str) -> None:
    done = ask(
        "trades", option, "--start", str(DAY - timedelta(days=3)), "--max-rows", "1", "--json"
    )

    assert done.stderr.startswith("onetape: stopped after 1 rows")


# health


def test_all_is_well(ask: Ask) -> None:
    done = ask("health")
    lines = done.stdout.splitlines()

    assert (done.returncode, done.stderr) == (0, "")
    assert "SIMULATED" in lines[0]
    parts = [" ".join(line.split("  ")[0].split()) for line in lines[2:]]
    assert {"gateway", "client", "client rest", "client token", "client options"} <= {*parts}


def test_health_for_programs(ask: Ask) -> None:
    found = document(ask("health", "--json"))
    rows = ask("health", "--csv").stdout.splitlines()

    assert (found["gateway"]["status"], found["client"]["status"]) == ("ok", "ok")
    assert found["client"]["token"]["valid"]
    assert found["client"]["rest"]["rest"]["requests"] == 1
    assert (found["simulated"], rows[0]) == (True, "part,is_well,state,figures")


REFUSE: Final = {"do": "answer", "status": 403}


@contextlib.contextmanager
def failing(
    venue: Venue, path: str, *, pages: str = "any", action: Mapping[str, object] = REFUSE
) -> Generator[None]:
    """Let the vendor fail at a path; a gateway that has a copy does without it."""
    rule = {"where": "rest", "path": path, "pages": pages, "action": action}
    with scripted(venue, rule):
        yield


@contextlib.contextmanager
def scripted(venue: Venue, *rules: Mapping[str, object]) -> Generator[None]:
    """Let the vendors suffer what the rules say."""

    async def tell(method: str) -> None:
        url, body = f"{venue.simulator}/_simulator/faults", msgspec.json.encode({"rules": rules})
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, data=body) as answer,
        ):
            assert answer.status < 300, await answer.text()

    asyncio.run(tell("PUT"))
    try:
        yield
    finally:
        asyncio.run(tell("DELETE"))


def test_a_vendor_that_fails_is_a_fault_that_health_finds(ask: Ask, tmp_path: Path) -> None:
    """A gateway that has asked before has a copy; this one has not."""
    with opened(tmp_path) as other, failing(other, "/v1/marketstatus/*"):
        done = ask("health", ONETAPE_URL=other.url, ONETAPE_KEY=other.key)

    assert done.returncode == 1
    assert "client rest" in done.stdout
    assert done.stderr.startswith("onetape: upstream_forbidden: ")


# who is at fault


def test_a_gateway_that_is_not_there_is_told_from_one_that_does_not_let_us_in(
    ask: Ask, venue: Venue
) -> None:
    gone = complaint(ask("quote", "SPY", "--url", "http://127.0.0.1:9"), 3)
    refused = complaint(ask("quote", "SPY", ONETAPE_KEY=venue.revoked), 3)
    unknown = complaint(ask("health", ONETAPE_KEY="ot_nobody"), 3)
    asleep = complaint(ask("health", "--url", "http://127.0.0.1:9"), 3)

    assert "upstream_down: the gateway at http://127.0.0.1:9 cannot be reached" in gone
    assert "does it run? `onetape demo`" in gone
    assert "token_revoked: the gateway at" in refused
    assert "does not accept ONETAPE_KEY" in refused
    assert "onetape keys create" in unknown
    assert "cannot be reached" in asleep


def test_settings_that_are_wrong_are_one_line_each(ask: Ask) -> None:
    no_key = complaint(ask("quote", "SPY", ONETAPE_KEY=" "), 2)
    no_url = complaint(ask("quote", "SPY", "--url", "desk.example"), 2)
    two = complaint(ask("quote", "SPY", "--json", "--csv"), 2)
    odd = complaint(ask("quote", "S P Y"), 2)

    assert "ONETAPE_KEY is not set" in no_key
    assert "http://host:port" in no_url
    assert "--json and --csv" in two
    assert "invalid_symbol" in odd


MASSIVE_REFUSES: Final = {"where": "rest", "path": "*", "action": REFUSE}
TRADIER_FAILS: Final = {
    "where": "tradier",
    "action": {"do": "fail", "kind": "text", "status": 503},
}


def test_a_vendor_that_stands_in_for_another_is_seen(ask: Ask, tmp_path: Path) -> None:
    """R220: whose the numbers are, and why they are not the first one's."""
    with opened(tmp_path) as other, scripted(other, MASSIVE_REFUSES):
        at = {"ONETAPE_URL": other.url, "ONETAPE_KEY": other.key}
        chain = ask("chain", "QQQ", "--around", "1", **at)
        quotes = ask("quote", "QQQ", "IWM", **at)
        (quote, _) = document(ask("quote", "QQQ", "IWM", "--json", **at))["quotes"]

    why = "massive does not accept our key, or the plan lacks this"
    for done in (chain, quotes):
        heading, told, *_ = done.stdout.splitlines()
        assert (done.returncode, done.stderr) == (0, "")
        assert "tradier, rest" in heading
        assert told == f"tradier stands in: {why}"
    assert (quote["provider"], quote["quality"]["fallback_reason"]) == ("tradier", why)
    assert "fallback" in [reason["code"] for reason in quote["quality"]["reasons"]]


def test_vendors_that_fail_are_told_from_a_gateway_that_does(ask: Ask, tmp_path: Path) -> None:
    with opened(tmp_path) as other, scripted(other, MASSIVE_REFUSES, TRADIER_FAILS):
        at = {"ONETAPE_URL": other.url, "ONETAPE_KEY": other.key}
        chain = complaint(ask("chain", "QQQ", **at), 4)
        quotes = ask("quote", "QQQ", "IWM", **at)

    assert chain.startswith("onetape: ALL_PROVIDERS_FAILED: ")
    assert (quotes.returncode, quotes.stderr.count("ALL_PROVIDERS_FAILED")) == (4, 2)


def test_a_chain_of_which_a_page_is_missing_says_so(ask: Ask, venue: Venue) -> None:
    with failing(venue, "/v3/snapshot/options/*", pages="next"):
        done = ask("chain", "SPY", "--expirations", "5", "--csv")

    assert done.returncode == 1
    assert done.stdout.count("\n") > 100
    assert done.stderr == "onetape: SPY: missing is what follows page 1: upstream_forbidden\n"


# people at terminals


def test_a_long_answer_shows_at_a_terminal_that_it_is_coming(
    ask: Ask, venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    err = Terminal()
    monkeypatch.setattr(sys, "stderr", err)
    slow = {"do": "slow", "before_s": 0.8}
    with failing(venue, "/v3/snapshot/options/*", action=slow):
        done = ask("chain", "DIA", "--expiration", f"{SOONEST}", "--csv")

    assert done.returncode in {0, 1}
    assert re.search(r"\d pages", err.getvalue())
