"""JSON as the XML that Tradier answers with unless it is asked for JSON."""

from collections.abc import Iterator
from typing import Any, cast
from xml.sax.saxutils import escape

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'


def to_xml(tree: dict[str, Any]) -> str:
    """Write an object of one root as a document."""
    ((root, value),) = tree.items()
    return HEAD + "".join(_element(root, value))


def _element(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for one in cast("list[Any]", value):
            yield from _element(name, one)
    elif isinstance(value, dict):
        yield f"<{name}>"
        for key, inner in cast("dict[str, Any]", value).items():
            yield from _element(key, inner)
        yield f"</{name}>"
    elif value is None:
        yield f"<{name}/>"
    else:
        text = str(value).lower() if isinstance(value, bool) else str(value)
        yield f"<{name}>{escape(text)}</{name}>"
