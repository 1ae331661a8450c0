"""A figure is read once for all pages, and the longer that takes, the less often."""

from __future__ import annotations

from orchestrator.dashboard.recent import AGE_PER_COST, MAX_RECENT, MIN_AGE_SECONDS, Recent


class Source:
    """Something that takes a while to read."""

    def __init__(self, cost: float) -> None:
        self.now, self.cost, self.reads = 0.0, cost, 0
        self.recent = Recent[str, int](lambda: self.now)

    def read(self) -> int:
        self.reads += 1
        self.now += self.cost
        return self.reads

    def get(self, key: str = "a") -> int:
        return self.recent.get(key, self.read)


def test_a_cheap_figure_is_read_again_after_a_second() -> None:
    source = Source(cost=0.0)
    assert (source.get(), source.get()) == (1, 1)

    source.now += MIN_AGE_SECONDS
    assert source.get() == 2


def test_a_dear_figure_takes_a_small_part_of_the_time() -> None:
    source = Source(cost=2.0)
    source.get()
    source.now += AGE_PER_COST * 2.0 - 0.1
    assert source.get() == 1

    source.now += 0.1
    assert source.get() == 2


def test_keys_do_not_mix_and_are_bounded() -> None:
    source = Source(cost=0.0)
    values = [source.get(str(number)) for number in range(2 * MAX_RECENT)]

    assert values == list(range(1, 2 * MAX_RECENT + 1))
    assert source.get(str(2 * MAX_RECENT - 1)) == 2 * MAX_RECENT
