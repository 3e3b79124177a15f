"""The house rules a machine can hold; the import contracts are in pyproject.toml."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/onetape"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
DECLARATIONS = {"__init__.py", "__main__.py", "model.py", "clock.py", "_sessions.py"}
PROTOCOLS = PACKAGE / "providers" / "interfaces.py"
"""What has no behaviour of its own, or is generated."""

each_source = pytest.mark.parametrize(
    "path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE))
)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body, without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body and body[-1].end_lineno else 0


@each_source
def test_every_module_is_tested_at_the_mirrored_path(path: Path) -> None:
    if path.name not in DECLARATIONS and path != PROTOCOLS:
        mirror = path.relative_to(PACKAGE).with_name(f"test_{path.name.lstrip('_')}")
        assert (ROOT / "tests" / mirror).is_file()


@each_source
def test_no_file_grows_past_six_hundred_lines(path: Path) -> None:
    assert path.read_text().count("\n") <= 600, "split it along its own seams"


@each_source
def test_no_function_needs_scrolling(path: Path) -> None:
    long = {f.name: code_lines(f) for f in functions(path) if code_lines(f) > 40}
    assert not long


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT / "tests")))
def test_no_test_is_skipped_or_expected_to_fail(path: Path) -> None:
    if path != Path(__file__):
        assert not re.search(
            r"pytest\.(skip|xfail|importorskip)|mark\.(skip|xfail)", path.read_text()
        )


def test_every_named_requirement_row_and_weakness_exists() -> None:
    """Docstrings cite rows R1-R283, decisions C1-C38 and weaknesses W-01 to W-78."""
    for path in TESTS:
        for text in re.findall(r'"""(.*?)"""', path.read_text(), re.DOTALL):
            assert all(1 <= int(n) <= 283 for n in re.findall(r"\bR(\d+)\b", text)), path
            assert all(1 <= int(n) <= 78 for n in re.findall(r"\bW-(\d+)\b", text)), path


def test_the_version_the_changelog_and_the_package_agree() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text()

    assert f'__version__ = "{version}"' in (PACKAGE / "__init__.py").read_text()
    assert re.search(r"^## \[Unreleased\]", changelog, re.MULTILINE)
    assert f"## [{version}]" in changelog


def test_the_lock_names_no_registry() -> None:
    assert "://" not in (ROOT / "constraints.txt").read_text()
