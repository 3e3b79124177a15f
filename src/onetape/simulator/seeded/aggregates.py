"""Bars from prints, exactly: volumes and notionals are summed as integers.

A print that may not set prices (an odd lot, say) still counts in volume. A window in
which nothing set a price has no bar.
"""

from typing import Final, NamedTuple

import numpy as np

from onetape.simulator.seeded.noise import Flags, Floats, Integers

UNITS: Final = 10_000
"""Prices are summed in ten-thousandths of a dollar."""


def bounds(t_ns: Integers, start_ns: int, end_ns: int) -> tuple[int, int]:
    """Where `[start_ns, end_ns)` begins and ends among ascending times."""
    return int(np.searchsorted(t_ns, start_ns)), int(np.searchsorted(t_ns, end_ns))


class Prints(NamedTuple):
    """Some prints of one symbol, ascending in time."""

    t_ns: Integers
    price: Floats
    size: Integers | None = None
    """None for index values, which have no volume."""
    priced: Flags | None = None
    """Which prints may set open, high, low and close; None: all."""

    def cut(self, low: int, high: int) -> "Prints":
        """The prints at these positions."""
        return Prints(
            self.t_ns[low:high],
            self.price[low:high],
            None if self.size is None else self.size[low:high],
            None if self.priced is None else self.priced[low:high],
        )

    def between(self, start_ns: int, end_ns: int) -> "Prints":
        """The prints in `[start_ns, end_ns)`."""
        return self.cut(*bounds(self.t_ns, start_ns, end_ns))

    @property
    def size_bytes(self) -> int:
        """Bytes held."""
        return sum(column.nbytes for column in self if column is not None)


class Figures(NamedTuple):
    """What one window was."""

    start_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: int | None
    vwap: float | None
    transactions: int | None


def notional(price: Floats, size: Integers) -> Integers:
    """Price times size in ten-thousandths of a dollar, exact."""
    return np.rint(price * UNITS).astype(np.int64) * size


def average(units: int, volume: int) -> float:
    """The volume-weighted price."""
    return round(units / UNITS / volume, 4)


def windows(prints: Prints, origin_ns: int, width_ns: int) -> list[Figures]:
    """Cut prints into windows of one width, counted from the origin."""
    which = (prints.t_ns - origin_ns) // width_ns
    chosen, price = which, prints.price
    if prints.priced is not None:
        chosen, price = which[prints.priced], price[prints.priced]
    if not len(chosen):
        return []
    first = np.flatnonzero(np.concatenate(([True], chosen[1:] != chosen[:-1])))
    last = np.concatenate((first[1:], [len(chosen)])) - 1
    ids = chosen[first]
    columns = (
        (origin_ns + ids * width_ns).tolist(),
        price[first].tolist(),
        np.maximum.reduceat(price, first).tolist(),
        np.minimum.reduceat(price, first).tolist(),
        price[last].tolist(),
        *_volumes(prints, which, ids),
    )
    return [Figures(*row) for row in zip(*columns, strict=True)]


def _volumes(
    prints: Prints, which: Integers, ids: Integers
) -> tuple[list[int | None], list[float | None], list[int | None]]:
    if prints.size is None:
        nothing: list[None] = [None] * len(ids)
        return [*nothing], [*nothing], [*nothing]
    low, high = np.searchsorted(which, ids), np.searchsorted(which, ids, "right")
    volume = _running(prints.size)
    units = _running(notional(prints.price, prints.size))
    volumes = (volume[high] - volume[low]).tolist()
    sums = (units[high] - units[low]).tolist()
    vwaps = [average(*pair) for pair in zip(sums, volumes, strict=True)]
    return volumes, [*vwaps], (high - low).tolist()


def _running(values: Integers) -> Integers:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(values)))


def whole(prints: Prints) -> Figures | None:
    """All the prints as one window; None when nothing set a price."""
    price = prints.price if prints.priced is None else prints.price[prints.priced]
    if not len(price):
        return None
    volume, units = totals(prints)
    return Figures(
        int(prints.t_ns[0]),
        float(price[0]),
        float(price.max()),
        float(price.min()),
        float(price[-1]),
        volume,
        average(units, volume) if volume and units else None,
        None if volume is None else len(prints.t_ns),
    )


def totals(prints: Prints) -> tuple[int | None, int]:
    """Volume (None for an index) and notional in ten-thousandths of a dollar."""
    if prints.size is None:
        return None, 0
    return int(prints.size.sum()), int(notional(prints.price, prints.size).sum())
