"""The unit tests that the sources name are all there (R268), counted by that citation."""

import ast
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parent
INVENTORY = {
    "quality/test_contracts.py": 12,
    "quality/test_chains.py": 6,
    "quality/test_indices.py": 3,
    "hybrid/test_providers.py": 8 + 4 + 2,  # selection, health, subscriptions
}


def test_the_inventory_of_unit_tests_is_complete() -> None:
    found: Counter[str] = Counter()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                cites = "R268" in (ast.get_docstring(node) or "")
                found[path.relative_to(TESTS).as_posix()] += cites and node.name.startswith("test_")

    assert {path: count for path, count in found.items() if count} == INVENTORY
    assert sum(INVENTORY.values()) == 35
