"""The numbers behind `/metrics`: families of plain numbers with closed sets of labels.

Counting is one dict lookup and an addition: no lock, no library. The library only
writes the exposition, in another thread, from copies. A value outside of its label's
set is counted as `other`, so no client can grow a metric.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Final, Literal

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from onetape.errors import BY_CODE
from onetape.hybrid.verdicts import Why
from onetape.massive.notices import State
from onetape.massive.wire_rest import Endpoint
from onetape.model import AssetClass

OTHER: Final = "other"

OWN_ENDPOINTS: Final = frozenset(
    {"health", "ws_health", "metrics", "ws_token", "market", "page", "openapi"}
    | {"quotes", "bars", "chain", "contracts", "indices", "holidays"}
)
"""Route classes of our own, beside the vendor's `Endpoint`s."""

MARKET: Final = "market"
"""Stands where an asset class does, for the sockets that read the view of all of them."""

CLIENT_LEFT: Final = "client_left"
"""The code of a session that its client ended."""

_CODES: Final = frozenset(BY_CODE)
LABELS: Final[Mapping[str, frozenset[str]]] = {
    "asset": frozenset(AssetClass) | {MARKET},
    "endpoint": frozenset(Endpoint) | OWN_ENDPOINTS,
    "status": frozenset({"1xx", "2xx", "3xx", "4xx", "5xx", "error"}),
    "how": frozenset({"hit", "miss", "coalesced", "stale"}),
    "code": _CODES | {CLIENT_LEFT},
    "reason": _CODES,
    "state": frozenset(State),
    "by": frozenset({"client_key", "token", "bootstrap"}),
    "data": frozenset({"options", "indices", "broker"}),
    "provider": frozenset({"massive", "tradier"}),
    "why": frozenset(Why),
    "version": frozenset(),  # one value, set once
    "key_id": frozenset(),  # as many as the operator made keys
}
"""Every label, and what it may say."""

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Family:
    """One metric: a number for each combination of its labels."""

    __slots__ = ("_kind", "_values", "help", "labels", "name")

    def __init__(
        self, kind: Literal["counter", "gauge"], name: str, text: str, labels: Sequence[str]
    ) -> None:
        self._kind = kind
        self._values: dict[tuple[str, ...], float] = {}
        self.name = name
        self.help = text
        self.labels = tuple(labels)

    def add(self, *labels: str, by: float = 1) -> None:
        """Count; the hot way is one dict lookup."""
        values = self._values
        if labels not in values:
            labels = closed(self.labels, labels)
            values.setdefault(labels, 0)
        values[labels] += by

    def put(self, value: float, *labels: str) -> None:
        """Set what somebody else counts."""
        self._values[closed(self.labels, labels)] = value

    def value(self, *labels: str) -> float:
        """Return the number, 0 if there is none yet."""
        return self._values.get(labels, 0)

    def label_sets(self) -> list[tuple[str, ...]]:
        """Return the combinations of labels seen so far."""
        return list(self._values)

    def collect(self) -> Metric:
        """Copy it for the exposition; called in another thread."""
        family = CounterMetricFamily if self._kind == "counter" else GaugeMetricFamily
        metric = family(self.name, self.help, labels=self.labels)
        for labels, value in self._values.copy().items():  # dict.copy is atomic
            metric.add_metric(labels, value)
        return metric


class Histogram:
    """Durations by label, in fixed buckets."""

    __slots__ = ("_counts", "_sums", "help", "labels", "name")

    def __init__(self, name: str, text: str, labels: Sequence[str]) -> None:
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}
        self.name = name
        self.help = text
        self.labels = tuple(labels)

    def observe(self, seconds: float, *labels: str) -> None:
        """Count one duration."""
        counts = self._counts.get(labels)
        if counts is None:
            labels = closed(self.labels, labels)
            counts = self._counts.setdefault(labels, [0] * (len(_SECONDS) + 1))
            self._sums.setdefault(labels, 0.0)
        counts[bisect_left(_SECONDS, seconds)] += 1
        self._sums[labels] += seconds

    def collect(self) -> Metric:
        """Copy it for the exposition; called in another thread."""
        metric = HistogramMetricFamily(self.name, self.help, labels=self.labels)
        bounds = [*map(str, _SECONDS), "+Inf"]
        for labels, counts in self._counts.copy().items():
            buckets = list(zip(bounds, map(float, accumulate(counts)), strict=True))
            metric.add_metric(labels, buckets, self._sums.get(labels, 0.0))
        return metric


OPEN: Final = frozenset({"version", "key_id"})
"""Labels whose values nobody outside can invent."""


def closed(names: Sequence[str], values: Sequence[str]) -> tuple[str, ...]:
    """Return the values, those outside of their label's set as `other`."""
    return tuple(
        value if name in OPEN or value in LABELS[name] else OTHER
        for name, value in zip(names, values, strict=True)
    )
