import numpy as np
import pytest

from onetape.simulator.seeded.noise import digit, generator, key, mix, unit

KEYS = np.arange(20_000, dtype=np.uint64)


def test_the_hash_of_words_is_the_same_in_every_process() -> None:
    # Pinned: a change here changes every tape.
    assert key("onetape", 7, "SPY") == 854208822611881088
    assert key("ab", "c") != key("a", "bc")


def test_a_generator_is_named_by_its_words() -> None:
    assert generator(7, "x").random() == generator(7, "x").random()
    assert generator(7, "x").random() != generator(8, "x").random()


def test_scrambled_integers_are_even_between_zero_and_one() -> None:
    found = unit(mix(KEYS))

    assert found.min() >= 0
    assert found.max() < 1
    assert found.mean() == pytest.approx(0.5, abs=0.01)
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.02


@pytest.mark.parametrize("place", range(4))
def test_digits_cover_their_base_evenly(place: int) -> None:
    counts = np.bincount(digit(mix(KEYS), place, 10), minlength=10)

    assert len(counts) == 10
    assert counts.min() > 1_700
