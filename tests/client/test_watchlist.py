from hypothesis import given, strategies as st

from onetape.client._watchlist import Difference, Watchlist


def settled(*symbols: str) -> Watchlist:
    watchlist = Watchlist()
    watchlist.update(symbols, 0.0)
    watchlist.settle(0.3)
    return watchlist


def test_only_the_difference_is_told() -> None:
    """R115: A,B to B,C removes A and adds C."""
    watchlist = settled("A", "B")

    watchlist.update(["B", "C"], 1.0)

    assert watchlist.settle(1.3) == Difference(added=("C",), removed=("A",))
    assert watchlist.symbols == ("B", "C")


def test_a_burst_of_changes_is_one_difference_after_the_last() -> None:
    """R134: ten changes within 200 ms."""
    watchlist = settled()
    for tick in range(10):
        watchlist.update([f"S{tick}"], tick * 0.02)
        assert watchlist.settle(tick * 0.02 + 0.01) is None

    assert watchlist.due_at == 0.18 + 0.3
    assert watchlist.settle(0.47) is None
    assert watchlist.settle(0.48) == Difference(added=("S9",), removed=())
    assert watchlist.settle(9.0) is None


def test_one_symbol_for_another_is_a_change_and_a_new_order_is_none() -> None:
    """R137, W-50, C34: by content, not by size."""
    watchlist = settled("A", "B")
    watchlist.update(["A", "C"], 1.0)
    assert watchlist.settle(1.3) == Difference(added=("C",), removed=("B",))

    watchlist.update(["C", "A", "C"], 2.0)
    assert watchlist.settle(2.3) is None
    assert watchlist.symbols == ("C", "A")


@given(st.lists(st.sets(st.sampled_from("ABCDE")), max_size=8))
def test_the_differences_always_add_up_to_the_watchlist(changes: list[set[str]]) -> None:
    watchlist, watched, now = Watchlist(), set[str](), 0.0
    for change in changes:
        watchlist.update(change, now)
        now += 0.3
        difference = watchlist.settle(now)
        if difference is not None:
            assert not watched & set(difference.added)
            watched = watched - set(difference.removed) | set(difference.added)
    assert watched == set(watchlist.symbols) == (changes[-1] if changes else set())
