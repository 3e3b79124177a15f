"""The hybrids of an application, made of providers that are not asked here."""

from types import TracebackType
from typing import Any, Self

import pytest

from onetape.errors import InvalidRequest
from onetape.hybrid.factory import VendorProviders, create_data_providers, opened
from onetape.providers.interfaces import (
    BrokerDataProvider,
    IndicesDataProvider,
    OptionsDataProvider,
)


class Named:
    """A provider of everything, and whether it is open."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.entered = self.left = 0

    def health(self) -> tuple[()]:
        return ()

    async def __aenter__(self) -> Self:
        self.entered += 1
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.left += 1


def vendor(name: str) -> Any:
    return Named(name)


def test_without_massives_indices_there_is_nothing_to_make() -> None:
    with pytest.raises(InvalidRequest):
        create_data_providers(VendorProviders(vendor("massive"), vendor("massive")))


def test_hybrids_are_providers_like_those_they_are_made_of() -> None:
    """R213, R225."""
    massive = vendor("massive")
    providers = create_data_providers(VendorProviders(massive, massive, massive))

    assert isinstance(providers.options, OptionsDataProvider)
    assert isinstance(providers.indices, IndicesDataProvider)
    assert isinstance(providers.broker, BrokerDataProvider)
    assert {one.name for one in providers} == {"hybrid"}


async def test_what_serves_as_several_is_opened_once_and_closed_with_the_block() -> None:
    massive, tradier = vendor("massive"), vendor("tradier")
    first, second = VendorProviders(massive, massive, massive), VendorProviders(tradier, tradier)
    async with opened(create_data_providers(first, second), first, second):
        assert (massive.entered, tradier.entered) == (1, 1)
        assert (massive.left, tradier.left) == (0, 0)

    assert (massive.left, tradier.left) == (1, 1)
