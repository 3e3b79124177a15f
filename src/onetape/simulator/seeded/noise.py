"""Randomness as a function: the same words give the same numbers, in any order.

Two forms. `generator` seeds a numpy stream for what is made a day at a time; `mix` and
friends hash integers to integers for what must be reached one slot at a time. Neither
uses Python's salted `hash`. The tape of a seed is fixed for one version of numpy, which
may change its streams between releases.
"""

from hashlib import blake2b
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Keys: TypeAlias = NDArray[np.uint64]
Flags: TypeAlias = NDArray[np.bool_]

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)
_UNIT: Final = 2.0**-53
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)


def key(*words: str | int) -> int:
    """Hash words to 64 bits."""
    text = "\x1f".join(map(str, words))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def generator(*words: str | int) -> np.random.Generator:
    """Start the stream of numbers that these words name."""
    return np.random.Generator(np.random.SFC64(key(*words)))


def mix(values: Keys) -> Keys:
    """Scramble integers (splitmix64), element by element."""
    mixed = values + _GOLDEN
    mixed = (mixed ^ (mixed >> _S30)) * _FIRST
    mixed = (mixed ^ (mixed >> _S27)) * _SECOND
    return mixed ^ (mixed >> _S31)


def unit(values: Keys) -> Floats:
    """Read scrambled integers as numbers in [0, 1)."""
    return (values >> _S11).astype(np.float64) * _UNIT


def digit(values: Keys, place: int, base: int) -> Integers:
    """Read the 16 bits at `place` (0 to 3) as a number in [0, base)."""
    bits = (values >> np.uint64(16 * place)) & np.uint64(0xFFFF)
    return (bits.astype(np.int64) * base) >> 16
