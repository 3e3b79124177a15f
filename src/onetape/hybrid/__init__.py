"""Massive first, Tradier when it fails or is poor; start with `providers`."""

from onetape.hybrid.providers import (
    DataProviders,
    HybridBrokerProvider,
    HybridIndicesProvider,
    HybridOptionsProvider,
    VendorProviders,
    create_data_providers,
    opened,
)

__all__ = [
    "DataProviders",
    "HybridBrokerProvider",
    "HybridIndicesProvider",
    "HybridOptionsProvider",
    "VendorProviders",
    "create_data_providers",
    "opened",
]
