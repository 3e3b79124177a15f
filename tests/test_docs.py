"""What is public is documented, and what is documented exists.

Settings in `docs/config.md`, error codes and metrics have their tests beside the code
that owns them; the command line has its own. Here is the rest, and every example.
"""

import ast
import asyncio
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import aiohttp
import msgspec
import pytest

from onetape.config import describe
from onetape.demo import Demo, banner
from onetape.gateway.app import Gateway
from onetape.gateway.keys import SECRET_PATTERN
from onetape.gateway.logs import event_log
from onetape.gateway.metrics import LABELS
from onetape.gateway.operations import OPERATIONS as ROUTES
from onetape.gateway.replies import REPLIES
from onetape.gateway.telemetry import Telemetry
from onetape.gateway.topic_session import TopicDesk
from onetape.massive import notices
from onetape.massive.wire_stream import CHANNELS
from onetape.model import AssetClass
from onetape.settings import GatewayConfig
from onetape.simulator.app import Simulator
from onetape.testing import ManualClock, Playground

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/onetape"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
README = (ROOT / "README.md").read_text("utf-8")
WIRE = (ROOT / "docs/wire.md").read_text("utf-8")
INDEX = (ROOT / "docs/README.md").read_text("utf-8")
OPERATIONS = (ROOT / "docs/operations.md").read_text("utf-8")

NETLOC = "127.0.0.1:3000"
EXAMPLE_KEY = "ot_xxxxxxxx_" + "x" * 43
IMPORTED = (
    Gateway,
    Simulator,
)  # a playground imports these in the loop, where reading files blocks

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pytest.fixture
async def play(tmp_path: Path) -> AsyncIterator[Playground]:
    async with Playground(tmp_path) as running:
        yield running


def rows(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading."""
    section = text.partition(f"\n{heading}\n")[2].partition("\n## ")[0]
    table = re.search(r"^\|.*\n\|[-|]+\n((?:\|.*\n?)+)", section, re.MULTILINE)
    assert table, f"no table under {heading}"
    return [[cell.strip() for cell in row[1:-1].split("|")] for row in table[1].splitlines()]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def trees(*, below: str = "") -> Iterator[ast.Module]:
    for path in sorted((PACKAGE / below).rglob("*.py")):
        yield ast.parse(path.read_text("utf-8"))


def calls(tree: ast.Module, names: set[str]) -> Iterator[ast.Call]:
    """Find the calls of functions and methods by their last name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            last = getattr(node.func, "attr", getattr(node.func, "id", None))
            if last in names:
                yield node


# settings


def test_the_readme_lists_every_setting_with_its_default() -> None:
    expected = [
        [
            f"`{row.variable}`" + (f" or `{row.alias}`" if row.alias else ""),
            (f"`{row.default}`" if row.default and " " not in row.default else row.default)
            or "none",
            row.doc,
        ]
        for row in describe()
    ]

    assert rows(README, "## Settings") == expected


@each_page
def test_every_variable_that_is_named_exists(page: Path) -> None:
    known = {name for row in describe() for name in (row.variable, row.alias)}
    named = set(re.findall(r"\bONETAPE_[A-Z_]*[A-Z]\b(?![A-Z_*])", page.read_text("utf-8")))

    assert named <= known


# routes


def documented_routes() -> list[tuple[str, str, str]]:
    return [
        (path, cells[1], cells[2])
        for cells in rows(INDEX, "## Every route")
        for path in quoted(cells[0])
    ]


def own_paths() -> set[str]:
    return {path for operation in ROUTES.values() for path in operation.paths}


def test_the_index_lists_every_route_and_no_other() -> None:
    sockets = {f"{door}/{asset}" for door in ("", "/ws") for asset in AssetClass}
    vendors = {f"{prefix}/…" for prefix in GatewayConfig().rest_prefixes} | {"/api/massive/…"}
    documented = [path for path, _, _ in documented_routes()]

    assert Counter(documented) == Counter(own_paths() | sockets | vendors | {"/ws/market"})


async def asked(client: aiohttp.ClientSession, method: str, url: str) -> tuple[int, str | None]:
    async with client.request(method, url) as answer:
        return answer.status, answer.headers.get("allow")


async def test_every_route_takes_the_methods_and_the_credential_that_are_documented(
    play: Playground,
) -> None:
    own, url = own_paths(), play.gateway.url
    async with aiohttp.ClientSession() as client:
        for path, methods, credential in documented_routes():
            if path in own:
                assert await asked(client, "PUT", url + path) == (405, methods), path
            if "GET" in methods:
                status, _ = await asked(client, "GET", url + path.replace("…", "last/trade/SPY"))
                assert (status == 403) == (credential == "yes"), path


# the wire


def sent_statuses() -> dict[str, set[str]]:
    """Every status the gateway can send by itself, with the fields it can have."""
    sent: dict[str, set[str]] = {reply.status: {"code"} for reply in REPLIES.values()}
    sent["error"].add("topic")
    for tree in trees(below="gateway"):
        for call in calls(tree, {"status_event", "status_frame", "_frame"}):
            first = call.args[0] if call.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                fields = {keyword.arg for keyword in call.keywords if keyword.arg}
                more = {"code"} if "_frame" in ast.unparse(call.func).split(".") else set[str]()
                sent.setdefault(first.value, set()).update(fields | more)
    return sent


def test_every_status_is_documented_with_its_fields_and_no_other() -> None:
    documented = {
        quoted(cells[0])[0]: set(quoted(cells[1])) for cells in rows(WIRE, "## Status events")
    }

    assert documented == sent_statuses()


def test_every_close_code_is_documented_as_it_is_sent() -> None:
    for cells in rows(WIRE, "## How it ends"):
        for reason in quoted(cells[1]):
            assert REPLIES[reason].close_code == int(cells[0]), reason


def test_every_action_is_documented() -> None:
    session = ast.parse((PACKAGE / "gateway/session.py").read_text("utf-8"))
    patterns = {
        node.value.value
        for node in ast.walk(session)
        if isinstance(node, ast.MatchValue) and isinstance(node.value, ast.Constant)
    }

    documented = {quoted(cells[0])[0] for cells in rows(WIRE, "## What you may send")}
    assert documented == patterns | set(TopicDesk.actions)


def test_every_channel_is_documented() -> None:
    said = re.findall(r"^\| (\w+) \| (`T`.*|`V`.*) \|$", WIRE, re.MULTILINE)

    assert {asset: set(quoted(cell)) for asset, cell in said} == CHANNELS


# the log and the metrics


def logged_events() -> set[str]:
    """Every dotted name given to a logger outside the simulator."""
    found = {
        f"upstream.{notice.__struct_config__.tag}"
        for notice in vars(notices).values()
        if isinstance(notice, type)
        and issubclass(notice, msgspec.Struct)
        and notice.__struct_config__.tag
    }
    levels = {"debug", "info", "warning", "error", "exception"}
    for path in set(PACKAGE.rglob("*.py")) - set((PACKAGE / "simulator").rglob("*.py")):
        for call in calls(ast.parse(path.read_text("utf-8")), levels):
            first = call.args[0] if call.args else None
            if isinstance(first, ast.Constant) and "." in str(first.value):
                found.add(str(first.value))
    return found


def test_every_log_event_is_explained_and_no_other() -> None:
    explained = [quoted(cells[0])[0] for cells in rows(OPERATIONS, "## The log")]

    assert Counter(explained) == Counter(logged_events())


def metric_names() -> set[str]:
    log = event_log(lambda _: None, cast("Any", None))
    telemetry = Telemetry(clock=ManualClock(), log=log, version="0")
    return {family.collect().name for family in telemetry.all}


@each_page
def test_every_metric_that_is_named_exists(page: Path) -> None:
    named = {
        name.removesuffix("_total")
        for name in re.findall(r"\bonetape_\w+", page.read_text("utf-8"))
    }

    assert named <= {name.removesuffix("_total") for name in metric_names()}


def test_the_alerts_select_by_labels_that_can_come() -> None:
    for label, value in re.findall(r'\{(\w+)="(\w+)"\}', OPERATIONS):
        assert label == "job" or value in LABELS[label]


# pages


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower().strip()).replace(" ", "-")


@each_page
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), link


def test_the_index_leads_to_every_page() -> None:
    linked = {link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", INDEX)}
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}

    assert pages <= linked


@each_page
def test_no_page_holds_a_working_secret_or_a_path_of_some_machine(page: Path) -> None:
    text = page.read_text("utf-8")

    assert all(key[0] == EXAMPLE_KEY for key in SECRET_PATTERN.finditer(text))
    assert not re.search(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", text), "a whole token"
    assert not re.search(r"(?<![\w:/.])/(root|home|work|tmp|Users)/", text)


@each_page
def test_every_page_uses_our_words(page: Path) -> None:
    never = r"\b(stream key|packets?|payloads?|msgs?|listeners?|consumers?(?!`)|holes?)\b"
    text = page.read_text("utf-8").replace("slow_consumer", "").replace("slow-consumer", "")

    assert not re.findall(never, text, re.IGNORECASE)


def tree_of(text: str) -> list[str]:
    """Return the paths that the drawn tree names."""
    drawing = text.partition("```\nsrc/onetape/\n")[2].partition("```")[0]
    folders: dict[int, str] = {2: ""}
    named: list[str] = []
    for line in drawing.splitlines():
        depth = len(line) - len(line.lstrip())
        if folder := re.match(r"\s+(\w+)/", line):
            folders[depth + 2] = f"{folders[depth]}{folder[1]}/"
        named += [folders[depth] + name for name in re.findall(r"\b\w+\.py\b", line)]
    return named


def test_the_architecture_names_every_module_once_and_no_other() -> None:
    named = tree_of((ROOT / "ARCHITECTURE.md").read_text("utf-8"))
    modules = [
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    ]

    assert sorted(named) == sorted(modules)


# examples


@each_page
def test_every_python_example_compiles(page: Path) -> None:
    for block in blocks(page.read_text("utf-8"), "python"):
        compile(block, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@each_page
def test_every_json_example_is_json(page: Path) -> None:
    for block in blocks(page.read_text("utf-8"), "json"):
        try:
            msgspec.json.decode(block)
        except msgspec.DecodeError:  # one document a line
            for line in block.splitlines():
                msgspec.json.decode(line)


def test_the_readme_shows_the_banner_as_it_is() -> None:
    demo = Demo(f"http://{NETLOC}", NETLOC, EXAMPLE_KEY, "")

    assert banner(demo, ignored=[]).strip() in README


async def output(code: str, *, lines: int) -> list[str]:
    """Run a program and return its first lines."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-u", "-c", code, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            return [(await process.stdout.readline()).decode() for _ in range(lines)]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def example(play: Playground, marker: str) -> str:
    """Return a program of the README, aimed at the playground."""
    [code] = [block for block in blocks(README, "python") if marker in block]
    assert EXAMPLE_KEY in code
    return code.replace(NETLOC, play.gateway.netloc).replace(EXAMPLE_KEY, await play.key())


async def test_the_examples_of_the_readme_print_what_they_show(play: Playground) -> None:
    (price, *contracts), values = await asyncio.gather(
        output(await example(play, "RESTClient("), lines=4),
        output(await example(play, "WebSocketClient("), lines=3),
    )

    contract = r"O:SPY\d{6}[CP]\d{8} \d+\.\d+\n"
    value = r"IndexValue\(event_type='V', value=[\d.]+, ticker='I:(SPX|VIX)', timestamp=\d+\)\n"
    assert float(price) > 0
    assert all(re.fullmatch(contract, line) for line in contracts)
    assert all(re.fullmatch(value, line) for line in values)
    assert re.search(contract, README)
    assert re.search(value, README)


async def test_the_errors_of_the_readme_are_those_that_come(play: Playground) -> None:
    bad_token, bad_symbol = blocks(README, "json")[0], blocks(README, "json")[2]
    url = f"{play.gateway.url}/v2/last/trade/"
    async with aiohttp.ClientSession() as client:
        for path, key, shown in (("SPY", "wrong", bad_token), ("NOSUCH", None, bad_symbol)):
            credential = {"Authorization": f"Bearer {key or await play.key()}"}
            async with client.get(url + path, headers=credential) as answer:
                came, expected = await answer.json(), msgspec.json.decode(shown)
                assert came | {"request_id": ""} == expected | {"request_id": ""}


async def next_status(socket: aiohttp.ClientWebSocketResponse) -> str:
    async with asyncio.timeout(5):
        while '"status"' not in (frame := await socket.receive_str()):
            pass
    return frame


async def test_the_transcript_of_the_wire_is_what_is_said(play: Playground) -> None:
    """Every frame of the first dialogue but for the market's own."""
    dialogue = blocks(WIRE, "text")[0].replace(EXAMPLE_KEY, await play.key()).splitlines()
    said = [line for line in dialogue if '"ev":"Q"' not in line]
    heard: list[str] = []
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(f"{play.gateway.url}/stocks") as socket,
    ):
        for line in said:
            if line.startswith("> "):
                await socket.send_str(line[2:])
                heard.append(line)
            else:
                heard.append(f"< {await next_status(socket)}")

    assert heard == said


async def test_the_example_of_the_testing_page_passes(tmp_path: Path) -> None:
    [code] = blocks((ROOT / "docs/testing.md").read_text("utf-8"), "python")
    namespace: dict[str, Any] = {}
    exec(compile(code, "docs/testing.md", "exec"), namespace)
    [test] = [value for name, value in namespace.items() if name.startswith("test_")]

    async with asyncio.timeout(20):
        await test(tmp_path)
