"""The lanes of a worker: which threads do which step, and what a sweep may take."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from orchestrator.host_limiter import SLOTS_PER_HOST, HostLimiter
from orchestrator.jobs.model import FollowUpStatus, Step
from orchestrator.ledger import Room
from orchestrator.step_loop import in_thread
from orchestrator.steps.notify import notify
from orchestrator.steps.reconcile import take_due
from tests.ledger.kit import eventually
from tests.support import job_states, notify_kit
from tests.support.fakes import Answer, FakeProvider, Harness, ReceivedRequest, serving
from tests.support.notify_kit import VARIABLES
from workers.executor import StepExecutor
from workers.lanes import (
    ARCHIVE_PLACES,
    CONFIRM_PLACES,
    LANE_OF,
    NOTIFY_PLACES,
    OTHER_PLACES,
    Lanes,
    RefillableLanes,
)

Make = Callable[..., Lanes]


@pytest.fixture
def make(harness: Harness) -> Iterator[Make]:
    settings = harness.runtime.settings
    few = {name: replace(each, concurrency=32) for name, each in settings.providers.items()}
    settings = replace(settings, providers=few)

    made: list[Lanes] = []

    def lanes(run: Callable[[Step, str], None], **options: Any) -> Lanes:
        made.append(Lanes(run, settings, stopping=lambda: False, refill=lambda: None, **options))
        return made[-1]

    yield lanes
    for each in made:
        for loop in (each._loop, each._archive_loop, each._notify_loop):
            loop.stop()


class Hang:
    """A step that hangs for the jobs of `hanging`, and records what it began."""

    def __init__(self) -> None:
        self.hanging: set[str] = set()
        self.go_on = threading.Event()
        self.done: list[str] = []

    def __call__(self, _: Step, job_id: str) -> None:
        if job_id in self.hanging:
            in_thread(self.go_on.wait, 60)
        self.done.append(job_id)


@pytest.fixture
def hang() -> Iterator[Hang]:
    step = Hang()
    yield step
    step.go_on.set()


@pytest.mark.parametrize("step", Step)
def test_each_provider_and_each_follow_up_has_its_own_lane(make: Make, step: Step) -> None:
    lanes, taken = make(lambda *_: None), list[StepExecutor]()
    every = [*lanes.providers.values(), lanes.others, *lanes.follow_ups.values()]
    for lane in every:
        lane.offer = lambda _, __, lane=lane: taken.append(lane)  # type: ignore[method-assign,misc]

    lanes.offer(step, {"hiapi": ["job-1"], "evolink": ["job-2"], "removed-plug-in": ["job-3"]})

    if step in LANE_OF:
        assert taken == [lanes.follow_ups[LANE_OF[step]]] * 3
    else:
        assert taken == [lanes.providers["hiapi"], lanes.providers["evolink"], lanes.others]
    assert len(set(map(id, every))) == len(every)


def test_a_lane_has_the_places_of_the_settings(make: Make, harness: Harness) -> None:
    settings, room = harness.runtime.settings, make(lambda *_: None).room()

    assert room == Room(
        providers=dict.fromkeys(settings.providers, 32),
        others=OTHER_PLACES,
        follow_ups={
            Step.ARCHIVE: ARCHIVE_PLACES * settings.archive_threads,
            Step.NOTIFY: NOTIFY_PLACES * settings.notify_threads,
            Step.CONFIRM: CONFIRM_PLACES,
            Step.BATCH: NOTIFY_PLACES * settings.notify_threads,
        },
    )


def test_a_provider_that_hangs_takes_no_thread_of_the_others(make: Make, hang: Hang) -> None:
    lanes = make(hang)
    hanging = [f"hangs-{number}" for number in range(1000)]
    hang.hanging.update(hanging)
    lanes.offer(Step.SUBMIT, {"hiapi": hanging})

    lanes.offer(Step.SUBMIT, {"evolink": ["job-1"], "uniall": ["job-2"]})
    lanes.offer(Step.ARCHIVE, {"": ["job-3"]})
    lanes.offer(Step.NOTIFY, {"": ["job-4"]})

    for lane in (lanes.providers["evolink"], lanes.providers["uniall"], *lanes.follow_ups.values()):
        assert lane.drain(60) == []
    assert sorted(hang.done) == ["job-1", "job-2", "job-3", "job-4"]
    assert lanes.room().providers["hiapi"] == 8  # for its polls


def test_a_sweep_takes_only_what_has_a_place(make: Make, harness: Harness, hang: Hang) -> None:
    lanes = make(hang)
    places = lanes.providers["hiapi"].most_of_a_step
    hanging = [harness.enqueue("hiapi") for _ in range(places + 5)]
    hang.hanging.update(hanging)
    take_due(harness.runtime, lanes)
    harness.clock.forward(1)
    later = harness.enqueue("evolink")
    archived = job_states.ended(harness)

    take_due(harness.runtime, lanes)

    for lane in (lanes.providers["evolink"], lanes.follow_ups[Step.ARCHIVE]):
        assert lane.drain(60) == []
    assert sorted(hang.done) == sorted([later, archived])


def test_an_archive_whose_job_is_not_claimed_yet_is_begun_once(
    make: Make, harness: Harness, hang: Hang
) -> None:
    lanes, job_id = make(hang), job_states.ended(harness)
    hang.hanging.add(job_id)
    for _ in range(20):
        take_due(harness.runtime, lanes)

    hang.go_on.set()

    assert lanes.follow_ups[Step.ARCHIVE].drain(60) == []
    assert hang.done == [job_id]


def test_nothing_is_claimed_before_a_thread_has_it(
    make: Make, harness: Harness, hang: Hang
) -> None:
    job_ids = [harness.enqueue("hiapi") for _ in range(100)]
    hang.hanging.update(job_ids)

    make(hang).offer(Step.SUBMIT, {"hiapi": job_ids})

    assert {harness.seconds_until_due(job_id) for job_id in job_ids} == {0}


@pytest.mark.parametrize("served", [{Step.ARCHIVE}, {*Step} - {Step.ARCHIVE}])
def test_steps_that_other_workers_do_are_left_to_them(
    make: Make, harness: Harness, served: set[Step]
) -> None:
    done: list[Step] = []
    lanes = make(lambda step, _: done.append(step), serves=served.__contains__)
    for step in (Step.SUBMIT, Step.ARCHIVE, Step.NOTIFY):
        lanes.offer(step, {"hiapi": ["job-1"]})  # also a nudge of an earlier version
    harness.enqueue("hiapi")
    job_states.ended(harness)

    take_due(harness.runtime, lanes)

    assert lanes.drain(60) == []
    assert served >= set(done)
    assert done.count(Step.ARCHIVE) == 2 * (Step.ARCHIVE in served)


def test_a_refill_looks_only_for_lanes_that_were_full(
    make: Make, harness: Harness, hang: Hang
) -> None:
    lanes = make(hang)
    refill = RefillableLanes(lanes)
    assert refill.room().for_providers == 0
    places = lanes.providers["hiapi"].places
    job_ids = [harness.enqueue("hiapi") for _ in range(places)]
    hang.hanging.update(job_ids)
    lanes.offer(Step.SUBMIT, {"hiapi": job_ids, "evolink": [harness.enqueue("evolink")]})
    hang.go_on.set()
    assert lanes.drain(60) == []

    room = refill.room()

    assert room.providers["hiapi"] == room.for_providers == places
    assert set(room.follow_ups.values()) == {0}


def test_a_drain_gives_every_lane_what_is_left_of_the_time(make: Make) -> None:
    lanes, given = make(lambda *_: None), list[float]()
    every = [*lanes.providers.values(), lanes.others, *lanes.follow_ups.values()]

    def drain(number: int, seconds: float) -> list[str]:
        given.append(seconds)
        return [f"job-{number}"]

    for number, lane in enumerate(every):
        lane.drain = partial(drain, number)  # type: ignore[method-assign]

    left = lanes.drain(1000)

    assert left == [f"job-{number}" for number in range(len(every))]
    assert len(given) == len(every)
    assert given == sorted(given, reverse=True)
    assert all(0 < seconds <= 1000 for seconds in given)
    given.clear()
    lanes.drain(-1)
    assert set(given) == {0.0}


# Notifications --------------------------------------------------------------------------------


@pytest.fixture
def notifying(start: Callable[..., Harness]) -> Harness:
    """A process that may notify, with the usual places."""
    harness = start(**VARIABLES)
    limiter = HostLimiter(harness.runtime.settings.notify_threads, max_wait=3600)
    return harness.with_runtime(host_limiter=limiter)


def notify_lanes(harness: Harness) -> Lanes:
    return Lanes(
        lambda _, job_id: notify(harness.runtime, job_id),
        harness.runtime.settings,
        stopping=lambda: False,
        refill=lambda: None,
    )


def test_a_backlog_of_one_healthy_host_is_sent_without_a_sweep(notifying: Harness) -> None:
    with serving(FakeProvider(lambda _: Answer(200))) as receiver:
        jobs = [notify_kit.ended(notifying, receiver) for _ in range(100)]
        lanes = notify_lanes(notifying)

        lanes.offer(Step.NOTIFY, {"": jobs})

        assert lanes.drain(60) == []
        assert len(receiver.requests) == len(jobs)
        states = {notify_kit.notification(notifying, job).status for job in jobs}
        assert states == {FollowUpStatus.DONE}


def test_a_host_that_hangs_holds_few_places_and_delays_no_other(notifying: Harness) -> None:
    go_on = threading.Event()

    def hang(_: ReceivedRequest) -> Answer:
        go_on.wait(60)
        return Answer(200)

    with serving(FakeProvider(hang)) as hanging, serving(FakeProvider()) as receiver:
        receiver.handler = lambda _: Answer(200)
        lanes = notify_lanes(notifying)
        lanes.offer(Step.NOTIFY, {"": [notify_kit.ended(notifying, hanging) for _ in range(100)]})
        eventually(lambda: len(hanging.requests) == SLOTS_PER_HOST)

        other = notify_kit.ended(notifying, receiver)
        lanes.offer(Step.NOTIFY, {"": [other]})

        eventually(lambda: notify_kit.notification(notifying, other).status is FollowUpStatus.DONE)
        assert len(hanging.requests) == SLOTS_PER_HOST
        go_on.set()
        assert lanes.drain(60) == []


def test_a_step_that_outlasts_the_drain_is_not_broken_off(make: Make, hang: Hang) -> None:
    """An answer of a provider may still come while the process stops."""
    lanes = make(hang)
    hang.hanging = {"slow"}
    lanes.take(Step.POLL, ["slow"], "hiapi")

    assert lanes.drain(0) == ["slow"]
    hang.go_on.set()

    assert lanes.drain(60) == []
    assert hang.done == ["slow"]
