"""Market data for programs: CSV with every column there is, JSON with the model's own fields.

Pure. Instants are ISO 8601 in UTC to the nanosecond; in JSON, `event_time` stands beside
`event_ns`, which not every reader of JSON can hold. A quality is written as it reads now.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import msgspec

from onetape.provenance import Quality
from onetape.terminal.columns import Column, bare, iso


def csv_of(
    rows: Iterable[Any], columns: Sequence[Column], *, now_ns: int, has_header: bool = True
) -> str:
    """Write rows with every column that there is; the header first, unless it was written."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if has_header:
        writer.writerow([column.name for column in columns])
    for row in rows:
        writer.writerow([bare(column.form, column.value(row), now_ns=now_ns) for column in columns])
    return text.getvalue()


def json_of(value: Any, *, now_ns: int) -> str:
    """Write anything of ours as one line of JSON.

    A quality is written as it reads now; beside every `event_ns` stands `event_time`.
    """
    return msgspec.json.encode(_plain(value, now_ns)).decode()


def _plain(value: Any, now_ns: int) -> Any:
    if isinstance(value, Quality):
        value = value.flags(now_ns)
    if isinstance(value, msgspec.Struct):
        tag = value.__struct_config__.tag
        named = {"type": tag} if tag else {}
        fields = {name: getattr(value, name) for name in value.__struct_fields__}
        return _mapped(named | fields, now_ns)
    if hasattr(value, "_asdict"):
        return _mapped(value._asdict(), now_ns)
    if isinstance(value, Mapping):
        return _mapped(cast("Mapping[object, Any]", value), now_ns)
    if isinstance(value, list | tuple):
        return [_plain(one, now_ns) for one in cast("Sequence[Any]", value)]
    return value


def _mapped(value: Mapping[Any, Any], now_ns: int) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, one in value.items():
        plain[str(name)] = _plain(one, now_ns)
        if str(name).endswith("_ns"):
            time = str(name).removesuffix("_ns") + "_time"
            plain[time] = iso(one) if isinstance(one, int) else None
    return plain
