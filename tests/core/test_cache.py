import fnmatch

import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from onetape.core.cache import SWEEP_S, Cache, Found, Freshness, matches


def put(
    cache: Cache[bytes],
    key: str,
    value: bytes = b"",
    *,
    size: int = 1,
    fresh: float = 10,
    stale: float = 50,
    now: float = 0,
) -> bool:
    return cache.put(key, value, size_bytes=size, fresh_s=fresh, stale_s=stale, now=now)


def state(found: Found[bytes] | None) -> Freshness | None:
    return None if found is None else found.state


def test_an_entry_is_fresh_then_stale_then_gone() -> None:
    """R93: the expiry boundary."""
    cache = Cache[bytes](100)
    put(cache, "a", b"body", now=1000)

    assert cache.get("a", 1009.5) == Found(Freshness.FRESH, b"body", 9.5)
    assert cache.get("a", 1010) == Found(Freshness.STALE, b"body", 10)
    assert state(cache.get("a", 1059.9)) is Freshness.STALE
    assert cache.get("a", 1060) is None
    assert len(cache) == 0, "an expired entry is removed when it is read"


def test_an_entry_without_stale_time_goes_from_fresh_to_gone() -> None:
    cache = Cache[bytes](100)
    put(cache, "a", fresh=10, stale=0)

    assert state(cache.get("a", 9)) is Freshness.FRESH
    assert cache.get("a", 10) is None


def test_an_entry_that_is_never_fresh_is_stale_at_once() -> None:
    cache = Cache[bytes](100)

    assert put(cache, "a", fresh=0, stale=10)
    assert state(cache.get("a", 0)) is Freshness.STALE


def test_an_entry_without_a_lifetime_is_not_kept_and_ends_the_older_one() -> None:
    cache = Cache[bytes](100)
    put(cache, "a", b"old")

    assert not put(cache, "a", b"new", fresh=0, stale=0)
    assert cache.get("a", 0) is None


def test_a_newer_value_replaces_the_older_with_its_times_and_size() -> None:
    cache = Cache[bytes](100)
    put(cache, "a", b"old", size=60)
    put(cache, "a", b"new", size=70, now=9)

    assert cache.get("a", 18) == Found(Freshness.FRESH, b"new", 9)
    assert cache.statistics().size_bytes == 70
    assert cache.statistics().evictions == 0


def test_the_least_recently_used_goes_first() -> None:
    """R94, W-22: bounded in bytes, oldest out."""
    cache = Cache[bytes](3)
    for key in "abc":
        put(cache, key)
    cache.get("a", 0)

    put(cache, "d", size=2)

    assert [key for key in "abcd" if cache.get(key, 0)] == ["a", "d"]
    assert cache.statistics().evictions == 2


def test_a_stale_hit_counts_as_use() -> None:
    cache = Cache[bytes](2)
    put(cache, "a")
    put(cache, "b")
    cache.get("a", 20)

    put(cache, "c", now=20)

    assert cache.get("a", 20) is not None
    assert cache.get("b", 20) is None


def test_the_number_of_entries_is_bounded_too() -> None:
    """W-22: bytes and entries."""
    cache = Cache[bytes](100, max_entries=2)
    for key in "abc":
        put(cache, key, size=0)

    assert len(cache) == 2
    assert cache.get("a", 0) is None


def test_an_entry_larger_than_the_cache_is_refused_and_evicts_nobody_but_its_older_self() -> None:
    cache = Cache[bytes](10)
    put(cache, "a", size=4)
    put(cache, "b", size=4)

    assert not put(cache, "a", size=11)

    assert cache.get("a", 0) is None, "known to be out of date"
    assert cache.get("b", 0) is not None
    assert cache.statistics().size_bytes == 4


def test_a_negative_size_is_refused() -> None:
    cache = Cache[bytes](10)

    assert not put(cache, "a", size=-1)
    assert cache.statistics().size_bytes == 0


def test_dropping_forgets_one_entry() -> None:
    cache = Cache[bytes](10)
    put(cache, "a")

    assert cache.drop("a")
    assert not cache.drop("a")
    assert cache.get("a", 0) is None
    assert cache.statistics().size_bytes == 0


def test_clearing_by_glob_keeps_what_only_looks_alike() -> None:
    """R95: clear('chain:SPX:*') keeps chain:SPXW."""
    cache = Cache[bytes](10)
    for key in ("chain:SPX:a", "chain:SPX:", "chain:SPXW:a", "quote:SPX:a"):
        put(cache, key)

    assert cache.clear("chain:SPX:*") == 2

    assert [key for key in ("chain:SPXW:a", "quote:SPX:a") if cache.get(key, 0)] == [
        "chain:SPXW:a",
        "quote:SPX:a",
    ]
    assert cache.statistics().size_bytes == 2


def test_clearing_without_a_glob_forgets_everything() -> None:
    cache = Cache[bytes](10)
    put(cache, "a\nb")
    put(cache, "")

    assert cache.clear() == 2
    assert len(cache) == 0


@pytest.mark.parametrize(
    ("glob", "key", "expected"),
    [
        ("", "", True),
        ("", "a", False),
        ("*", "", True),
        ("a*", "a", True),
        ("*a", "ba", True),
        ("*a", "ab", False),
        ("a*c*e", "abcde", True),
        ("a*c*e", "abcdef", False),
        ("?", "a", True),
        ("?", "", False),
        ("a?c", "abc", True),
        ("*:?", "x:y:z", True),
        ("O:SPX.X", "O:SPXaX", False),
        ("[ab]", "a", False),
        ("[ab]", "[ab]", True),
        ("(a|b)+$", "a", False),
        ("**", "abc", True),
    ],
)
def test_a_glob_knows_two_wildcards_and_nothing_else(glob: str, key: str, expected: bool) -> None:
    """W-23: no regular expressions from callers, so no over-match."""
    assert matches(glob, key) is expected


def test_a_hostile_glob_takes_no_exponential_time() -> None:
    """W-23: as a regular expression this one would outlast the test's timeout, and us."""
    assert not matches("a*" * 100 + "b", "a" * 200)


@given(glob=st.text("ab*?", max_size=8), key=st.text("ab", max_size=8))
@settings(deadline=None)
def test_globs_mean_what_they_mean_to_a_shell(glob: str, key: str) -> None:
    assert matches(glob, key) == fnmatch.fnmatchcase(key, glob)


def test_a_put_sweeps_out_what_expired_unread() -> None:
    """W-22: not only on read."""
    cache = Cache[bytes](100)
    put(cache, "short", fresh=1, stale=SWEEP_S - 1, now=0)
    put(cache, "shorter", fresh=1, stale=0, now=0)
    put(cache, "long", fresh=1000, stale=0, now=0)

    put(cache, "other", now=SWEEP_S - 1)
    assert len(cache) == 4, "a sweep looks at every entry, so it is not made at each put"
    put(cache, "other", now=SWEEP_S)

    assert cache.drop("long")
    assert not cache.drop("short")
    assert not cache.drop("shorter")
    assert cache.statistics().expired == 2


def test_statistics_count_exactly() -> None:
    """R96, W-24: a real hit rate."""
    cache = Cache[bytes](2)
    cache.get("a", 0)
    put(cache, "a")
    for now in (0, 5, 9):
        cache.get("a", now)
    cache.get("a", 10)
    cache.get("a", 60)
    put(cache, "b", now=60)
    put(cache, "c", size=2, now=60)

    statistics = cache.statistics()

    assert statistics == (3, 1, 2, 1, 1, 1, 2)
    assert statistics.hit_rate == 0.5


def test_the_hit_rate_is_unknown_before_the_first_lookup() -> None:
    assert Cache[bytes](1).statistics().hit_rate is None


class Kept:
    def __init__(self, value: int, size: int, fresh_until: float, stale_until: float) -> None:
        self.value = value
        self.size = size
        self.fresh_until = fresh_until
        self.stale_until = stale_until


class AnyUse(RuleBasedStateMachine):
    """The cache against a plain dict in order of use that forgets nothing by itself."""

    BYTES, ENTRIES = 20, 4
    keys = st.sampled_from(["a:1", "a:2", "b:1", "b:2", "b:22", "c"])

    def __init__(self) -> None:
        super().__init__()
        self.cache = Cache[int](self.BYTES, max_entries=self.ENTRIES)
        self.now = 0.0
        self.model: dict[str, Kept] = {}
        self.swept_at = float("-inf")
        self.counts = dict.fromkeys(["hits", "stale_hits", "misses", "evictions", "expired"], 0)

    @rule(elapsed=st.sampled_from([0.0, 1.0, 4.0, 30.0]))
    def wait(self, elapsed: float) -> None:
        self.now += elapsed

    @rule(
        key=keys,
        value=st.integers(0, 99),
        size=st.integers(0, 22),
        fresh=st.sampled_from([0.0, 1.0, 5.0]),
        stale=st.sampled_from([0.0, 4.0, 60.0]),
    )
    def put(self, key: str, value: int, size: int, fresh: float, stale: float) -> None:
        if self.now >= self.swept_at + SWEEP_S:
            self.sweep()
        kept = self.cache.put(
            key, value, size_bytes=size, fresh_s=fresh, stale_s=stale, now=self.now
        )
        self.model.pop(key, None)
        assert kept is (size <= self.BYTES and fresh + stale > 0)
        if not kept:
            return
        fresh_until = self.now + fresh
        self.model[key] = Kept(value, size, fresh_until, fresh_until + stale)
        while sum(k.size for k in self.model.values()) > self.BYTES or (
            len(self.model) > self.ENTRIES
        ):
            del self.model[next(iter(self.model))]
            self.counts["evictions"] += 1

    @rule(key=keys)
    def get(self, key: str) -> None:
        found = self.cache.get(key, self.now)
        kept = self.model.pop(key, None)
        if kept is None or self.now >= kept.stale_until:
            assert found is None
            self.counts["misses"] += 1
            self.counts["expired"] += kept is not None
            return
        self.model[key] = kept
        fresh = self.now < kept.fresh_until
        self.counts["hits" if fresh else "stale_hits"] += 1
        assert found is not None
        assert found.entry == kept.value
        assert found.state is (Freshness.FRESH if fresh else Freshness.STALE)

    @rule(key=keys)
    def drop(self, key: str) -> None:
        assert self.cache.drop(key) is (self.model.pop(key, None) is not None)

    @rule(glob=st.sampled_from(["a:*", "b:?", "*2", "c", "nothing*"]))
    def clear(self, glob: str) -> None:
        gone = [key for key in self.model if fnmatch.fnmatchcase(key, glob)]
        for key in gone:
            del self.model[key]
        assert self.cache.clear(glob) == len(gone)

    def sweep(self) -> None:
        self.swept_at = self.now
        for key in [k for k, kept in self.model.items() if self.now >= kept.stale_until]:
            del self.model[key]
            self.counts["expired"] += 1

    @invariant()
    def counts_are_exact_and_the_bounds_hold(self) -> None:
        statistics = self.cache.statistics()
        assert statistics.size_bytes == sum(k.size for k in self.model.values()) <= self.BYTES
        assert statistics.entries == len(self.model) <= self.ENTRIES
        for name, expected in self.counts.items():
            assert getattr(statistics, name) == expected, name


TestAnyUse = AnyUse.TestCase
TestAnyUse.settings = settings(max_examples=60)
