from onetape.simulator.seeded.memory import Memory


def get(memory: Memory, key: str, size: int = 100, day: int | None = None) -> list[str]:
    return memory.get(key, lambda: [key], lambda _: size, day=day)


def test_what_is_held_is_made_once() -> None:
    memory = Memory(1_000)

    assert get(memory, "a") is get(memory, "a")
    assert memory.statistics()[:2] == (1, 100)
    assert memory.statistics().hits == memory.statistics().misses == 1


def test_the_least_recently_used_goes_first() -> None:
    memory = Memory(400)  # 300 of it for recent days
    first = get(memory, "a")
    get(memory, "b")
    get(memory, "c")
    get(memory, "a")

    get(memory, "d")

    assert get(memory, "a") is first
    assert memory.statistics().cached == 3


def test_one_value_larger_than_the_bound_is_still_held_while_it_is_used() -> None:
    memory = Memory(400)
    large = get(memory, "large", 10_000)

    assert get(memory, "large", 10_000) is large
    get(memory, "b")

    assert memory.statistics().cached_bytes == 100


def test_a_walk_through_the_past_does_not_push_out_the_present() -> None:
    memory = Memory(4_000)
    today = get(memory, "today", day=1_000)

    for day in range(500):
        get(memory, f"day {day}", day=day)

    assert get(memory, "today", day=1_000) is today
    assert memory.statistics().cached_bytes <= memory.statistics().limit_bytes == 4_000
