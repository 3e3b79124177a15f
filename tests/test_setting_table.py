from pathlib import Path

import pytest

from onetape.setting_table import TABLE, SettingDescription, describe
from onetape.settings import Origin

DOC = Path(__file__).parents[1] / "docs" / "config.md"
VARIABLES = [row.variable for row in TABLE]


def test_a_variable_and_a_key_name_one_setting() -> None:
    names = VARIABLES + [row.setting.alias for row in TABLE if row.setting.alias]

    assert len(set(names)) == len(names)
    assert len({row.key for row in TABLE}) == len(TABLE)


def doc_row(row: SettingDescription) -> str:
    alias = f" or `{row.alias}`" if row.alias else ""
    key = "not in the file" if row.secret else f"`{row.key}`"
    default = f"`{row.default}`" if row.default and " " not in row.default else row.default
    cells = (f"`{row.variable}`{alias}", key, row.type, default or "none", row.doc)
    return "| " + " | ".join(cells) + " |"


def test_the_documentation_lists_exactly_the_table() -> None:
    documented = [line for line in DOC.read_text("utf-8").splitlines() if line.startswith("| `")]

    assert documented == [doc_row(row) for row in describe()]


def test_without_a_config_there_are_no_values_to_describe() -> None:
    assert {(row.value, row.origin) for row in describe()} == {(None, Origin.DEFAULT)}


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("PORT", "a whole number at least 0 and at most 65535"),
        ("ONETAPE_SIM_SPEED", "a number above 0 and at most 100000"),
        ("ONETAPE_ALLOW_STATIC_TOKEN", "true or false"),
        ("ONETAPE_LOG_FORMAT", "one of json, console"),
        ("ONETAPE_ASSETS", "a comma-separated list of options, indices, stocks"),
        ("ONETAPE_SIM_SYMBOLS", "a comma-separated list"),
        ("ONETAPE_STATE_DIR", "a path"),
        ("MASSIVE_API_KEY", "a secret, without blanks"),
        ("WEB_ORIGIN", "a comma-separated list of origins such as https://desk.example.com"),
    ],
)
def test_what_is_expected_is_said_by_the_type(variable: str, expected: str) -> None:
    (row,) = (row for row in TABLE if row.variable == variable)

    assert row.expected == expected


def test_exactly_the_credentials_are_secret() -> None:
    assert {row.variable for row in TABLE if row.is_secret} == {
        "MASSIVE_API_KEY",
        "MASSIVE_PROXY_TOKEN",
        "ONETAPE_KEY",
        "MASSIVE_CLIENT_TOKEN",
        "VITE_MASSIVE_PROXY_TOKEN",
        "TRADIER_ACCESS_TOKEN",
    }
