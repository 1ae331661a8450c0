"""A figure is read once for all pages, and the longer that takes, the less often."""

from __future__ import annotations

import pytest

from orchestrator.dashboard.recent import (
    AGE_PER_COST,
    AGE_PER_TIME,
    MAX_AGE_SECONDS,
    MAX_RECENT,
    MIN_AGE_SECONDS,
    Recent,
)


class Source:
    """Something that takes a while to read."""

    def __init__(self, cost: float) -> None:
        self.now, self.cost, self.reads, self.notes = 0.0, cost, 0, 0
        self.recent = Recent[str, int](lambda: self.now, self.note)

    def note(self) -> None:
        self.notes += 1

    def read(self) -> int:
        self.reads += 1
        self.now += self.cost
        return self.reads

    def get(self, key: str = "a") -> int:
        return self.recent.get(key, self.read)

    def intervals(self, numbers: range, ended: float = 0.0) -> dict[int, int]:
        def read(run: range) -> dict[int, int]:
            return dict.fromkeys(run, self.read())

        return self.recent.intervals(str, numbers, read, lambda _: ended)


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
    values = [source.get(str(number)) for number in range(MAX_RECENT + 1)]

    assert values == list(range(1, MAX_RECENT + 2))
    assert source.get(str(MAX_RECENT)) == MAX_RECENT + 1
    assert source.get("0") == MAX_RECENT + 2  # the oldest was forgotten


@pytest.mark.parametrize("ended", [600.0, 10 * MAX_AGE_SECONDS / AGE_PER_TIME])
def test_an_interval_that_ended_is_read_less_often(ended: float) -> None:
    source = Source(cost=0.0)
    source.intervals(range(5, 6), ended)
    source.now += min(ended * AGE_PER_TIME, MAX_AGE_SECONDS) - 0.1
    assert source.intervals(range(5, 6), ended) == {5: 1}

    source.now += 0.2
    assert source.intervals(range(5, 6), ended) == {5: 2}


def test_intervals_that_follow_each_other_are_read_together() -> None:
    source = Source(cost=0.0)
    source.intervals(range(4, 6), ended=600.0)

    assert source.intervals(range(1, 9)) == {1: 2, 2: 2, 3: 2, 4: 1, 5: 1, 6: 3, 7: 3, 8: 3}


def test_a_page_with_an_older_cheap_figure_is_made_again() -> None:
    source = Source(cost=0.0)
    source.get()
    assert source.notes == 0
    source.get()
    assert source.notes == 1

    dear = Source(cost=2.0)
    dear.get()
    dear.get()
    assert dear.notes == 0
