"""Numbers that no client can make grow."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric

from onetape.gateway.metrics import LABELS, OPEN, OTHER, Family, Histogram


class One:
    def __init__(self, family: Family | Histogram) -> None:
        self._family = family

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> list[Metric]:
        return [self._family.collect()]


def exposition(family: Family | Histogram) -> list[str]:
    registry = CollectorRegistry()
    registry.register(One(family))
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_a_counter_counts_by_its_labels() -> None:
    family = Family("counter", "onetape_x_total", "X.", ("asset", "code"))

    family.add("options", "throttled")
    family.add("options", "throttled", by=2)
    family.add("stocks", "client_left")

    assert family.value("options", "throttled") == 3
    assert family.value("indices", "throttled") == 0
    assert exposition(family) == [
        'onetape_x_total{asset="options",code="throttled"} 3.0',
        'onetape_x_total{asset="stocks",code="client_left"} 1.0',
    ]


def test_a_gauge_is_set() -> None:
    family = Family("gauge", "onetape_x", "X.", ())

    family.put(5)
    family.put(4)

    assert exposition(family) == ["onetape_x 4.0"]


@pytest.mark.parametrize("label", sorted(LABELS.keys() - OPEN))
def test_a_value_outside_of_its_labels_set_is_other(label: str) -> None:
    family = Family("counter", "onetape_x_total", "X.", (label,))

    for made_up in range(100):
        family.add(f"made up {made_up}")

    assert family.value(OTHER) == 100
    assert family.label_sets() == [(OTHER,)]


def test_a_histogram_counts_into_every_bucket_above() -> None:
    histogram = Histogram("onetape_x_seconds", "X.", ("endpoint",))

    for seconds in (0.0005, 0.001, 0.3, 99.0):
        histogram.observe(seconds, "health")
    histogram.observe(0.001, "made up")

    lines = exposition(histogram)
    assert 'onetape_x_seconds_bucket{endpoint="health",le="0.001"} 2.0' in lines
    assert 'onetape_x_seconds_bucket{endpoint="health",le="0.25"} 2.0' in lines
    assert 'onetape_x_seconds_bucket{endpoint="health",le="0.5"} 3.0' in lines
    assert 'onetape_x_seconds_bucket{endpoint="health",le="+Inf"} 4.0' in lines
    assert 'onetape_x_seconds_count{endpoint="health"} 4.0' in lines
    assert 'onetape_x_seconds_count{endpoint="other"} 1.0' in lines


def test_the_wrong_number_of_labels_is_a_mistake_at_once() -> None:
    with pytest.raises(ValueError, match="zip"):
        Family("counter", "onetape_x_total", "X.", ("asset",)).add("options", "2xx")
