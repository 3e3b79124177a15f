"""When quotes and index values happen: one event in every slot of time, somewhere in it.

A slot is a stretch of a day of fixed width; its event falls at a hashed place within it.
So the n-th event of a day, and the event that stands at an instant, are found without
making the others. Widths and keys may be arrays: one call serves many symbols.
"""

from typing import Final

import numpy as np

from onetape.simulator.seeded.noise import Integers, Keys, mix, unit

_STRIDE: Final = np.uint64(0x9E3779B97F4A7C15)


def scramble(keys: Keys, slots: Integers) -> Keys:
    """The hash of each (symbol and day, slot)."""
    return mix(keys + slots.astype(np.uint64) * _STRIDE)


def times(start_ns: int, widths: Integers, slots: Integers, hashes: Keys) -> Integers:
    """When each slot's event happens."""
    within = (unit(hashes) * widths).astype(np.int64)
    # The first event opens the day, so that something always stands.
    return start_ns + slots * widths + within * (slots > 0)


def standing(start_ns: int, keys: Keys, widths: Integers, t_ns: Integers) -> Integers:
    """The slot of the last event at or before each instant; -1 when there is none yet."""
    slots = (t_ns - start_ns) // widths
    early = times(start_ns, widths, slots, scramble(keys, slots)) > t_ns
    return slots - early


def spanned(
    start_ns: int, widths: Integers, low_ns: int, high_ns: int
) -> tuple[Integers, Integers]:
    """First slot, and the one after the last, that may have an event in `[low_ns, high_ns)`."""
    first = (low_ns - start_ns) // widths
    stop = (high_ns - 1 - start_ns) // widths + 1
    return first, stop
