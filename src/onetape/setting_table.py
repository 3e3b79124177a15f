"""All settings as one table, derived from the sections.

Loading and its errors, `describe`, the command line's help and `docs/config.md`
(held by a test) come from it.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, cast, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from onetape.secret import Secret
from onetape.settings import (
    CacheConfig,
    ClientConfig,
    Config,
    GatewayConfig,
    HubConfig,
    MassiveConfig,
    Origin,
    Setting,
    SimulatorConfig,
    TradierConfig,
    UpstreamConfig,
)


class Row(NamedTuple):
    """One setting of the table."""

    section: str
    field: str
    hint: Any
    """The annotated type, as msgspec converts to it."""
    setting: Setting
    default: Any

    @property
    def variable(self) -> str:
        """Its name in the environment, which is how everything calls it."""
        return self.setting.variable

    @property
    def key(self) -> str:
        """Its name in `onetape.toml`."""
        return f"{self.section}.{self.field}"

    @property
    def kind(self) -> Any:
        """Its bare type, without what is in brackets."""
        bare = self.hint.__origin__
        return get_origin(bare) or bare

    @property
    def is_secret(self) -> bool:
        """Whether its value is never shown."""
        return self.hint.__origin__ == Secret | None

    @property
    def expected(self) -> str:
        """What a value has to be, for "expected ..."."""
        if self.setting.expects is not None:
            return self.setting.expects
        if self.is_secret:
            return "a secret, without blanks"
        if self.kind in (int, float):
            return self._expected_number()
        items = get_args(self.hint.__origin__)
        if self.kind is Literal:
            return "one of " + ", ".join(items)
        if self.kind is tuple:
            of = f" of {', '.join(items[0])}" if issubclass(items[0], StrEnum) else ""
            return f"a comma-separated list{of}"
        return {bool: "true or false", Path: "a path"}[self.kind]

    def _expected_number(self) -> str:
        noun = "a whole number" if self.kind is int else "a number"
        (meta,) = (part for part in self.hint.__metadata__ if isinstance(part, Meta))
        least = f"above {_show(meta.gt)}" if meta.gt is not None else f"at least {_show(meta.ge)}"
        return f"{noun} {least} and at most {_show(meta.le)}"


SECTIONS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "massive": MassiveConfig,
    "tradier": TradierConfig,
    "gateway": GatewayConfig,
    "cache": CacheConfig,
    "upstream": UpstreamConfig,
    "simulator": SimulatorConfig,
    "hub": HubConfig,
    "client": ClientConfig,
}


def _rows() -> Iterator[Row]:
    for section, cls in SECTIONS.items():
        hints = get_type_hints(cls, include_extras=True)
        defaults = cls()
        for field in cls.__struct_fields__:
            hint = hints[field]
            (setting,) = (part for part in hint.__metadata__ if isinstance(part, Setting))
            yield Row(section, field, hint, setting, getattr(defaults, field))


TABLE: Final[tuple[Row, ...]] = tuple(_rows())
"""Every setting there is, in the order of the documentation."""


class SettingDescription(msgspec.Struct, frozen=True, kw_only=True):
    """One setting for people; a secret's value is `***`."""

    variable: str
    alias: str | None
    key: str
    type: str
    default: str
    doc: str
    secret: bool
    value: str | None
    origin: Origin


def describe(config: Config | None = None) -> tuple[SettingDescription, ...]:
    """Return every setting there is, with its present value when a config is given."""
    return tuple(_described(row, config) for row in TABLE)


def _described(row: Row, config: Config | None) -> SettingDescription:
    shown, origin = None, Origin.DEFAULT
    if config is not None:
        shown = _show(getattr(getattr(config, row.section), row.field))
        origin = config.origins.get(row.variable, Origin.DEFAULT)
    return SettingDescription(
        variable=row.variable,
        alias=row.setting.alias,
        key=row.key,
        type=row.expected,
        default=row.setting.default or _show(row.default),
        doc=row.setting.doc,
        secret=row.is_secret,
        value=shown,
        origin=origin,
    )


def _show(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case dict():
            pairs = cast("dict[str, float]", value)
            return ",".join(f"{name}={_show(number)}" for name, number in pairs.items())
        case tuple():
            return ",".join(map(str, cast("tuple[str, ...]", value)))
        case _:
            return str(value)
