"""What a run does, drawn from its seed: the jobs, the providers' faults, the blows. Nothing here
depends on time, so the same seed and numbers give the same plan.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from orchestrator.providers import BUILT_IN, Provider
from tests.chaos.faults import FAULTS

#: What goes wrong at the callers, each once, and with a job of its own. Shares of the jobs.
TROUBLES: tuple[tuple[float, Mapping[str, Any]], ...] = (
    (0.02, {"answer": 503}),
    (0.01, {"answer": 500}),
    (0.01, {"drop": True}),
    (0.02, {"slow_seconds": 2.0}),  # so that workers die in notifications
)
#: The inbox of the callers that have no trouble.
INBOX = "shop"


def _requests(provider: Provider) -> Iterator[Mapping[str, Any]]:
    """Yield requests of every kind that the provider accepts."""
    models = list(provider.models)
    first, last = models[0], models[-1]
    yield {"model": first}
    yield {"model": "nano-banana-2", "resolution": "2K"}
    if provider.capabilities.upload_field:
        yield {"model": first, "image_file": True}
    if "n" in provider.models[first].options:
        yield {"model": first, "n": 2}
    if "n" in provider.models[last].options:
        yield {"model": last, "aspect_ratio": "16:9", "n": 3}


#: Kinds of jobs by provider, each as likely as the others of its provider.
REQUESTS: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    name: tuple(_requests(provider)) for name, provider in BUILT_IN.items()
}

VICTIMS = ("web", "worker", "beat")
#: What a worker is at when it is killed, in turn; and how long it has been at it, at most. Seconds.
SUBMISSION, ARCHIVE, NOTIFICATION = "submission", "archive", "notification"
AIMS = {SUBMISSION: 0.0, ARCHIVE: 0.2, NOTIFICATION: 0.03}
REDIS = "redis"
#: Time limit of the download of an image. Seconds.
DOWNLOAD = 5.0
#: How long Redis stays away. Seconds; from, to.
AWAY = (0.0, 3.0)
#: Shares of the jobs that have a deadline of their own, buy a second attempt, are sent twice.
HURRIED, RESUBMITTED, SENT_TWICE = 0.1, 0.1, 0.1
#: A deadline of a job's own. Seconds; from, to.
HURRY = (4.0, 12.0)


@dataclass(frozen=True, slots=True)
class Order:
    """One job to enqueue, `at` so many seconds after the start."""

    number: int
    at: float
    key: str
    body: Mapping[str, Any]
    with_file: bool
    twice: bool
    #: where its caller is told, and what goes wrong there, the first time
    inbox: str = INBOX
    trouble: Mapping[str, Any] = field(default_factory=dict)

    @property
    def provider(self) -> str:
        """Whose it is."""
        return str(self.body["provider"])

    @property
    def prompt(self) -> str:
        """Its own, so that its provider tasks can be told from all others."""
        return str(self.body["prompt"])

    @property
    def images(self) -> int:
        """How many it asks for."""
        return int(self.body.get("n", 1))


@dataclass(frozen=True, slots=True)
class Blow:
    """One SIGKILL: so many seconds after the one before, of whom, and how long it stays away.

    A worker dies so long after what it is aimed at has begun.
    """

    after: float
    victim: str
    away: float = 0.0
    aim: str = ""
    linger: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. Times in seconds; `deadline` is that of the jobs that name none."""

    seed: int
    jobs: int
    minutes: float
    every: float
    redis_kills: int
    deadline: float
    orders: tuple[Order, ...]
    blows: tuple[Blow, ...]

    @property
    def seconds(self) -> float:
        """How long jobs are enqueued, and processes killed."""
        return self.minutes * 60

    @property
    def command(self) -> str:
        """What to type to have the same again."""
        return (
            f"python -m tests.chaos --jobs {self.jobs} --minutes {self.minutes:g}"
            f" --seed {self.seed} --every {self.every:g} --redis-kills {self.redis_kills}"
            f" --deadline {self.deadline:g}"
        )


def plan(
    *,
    seed: int,
    jobs: int,
    minutes: float,
    every: float = 3.0,
    redis_kills: int = 2,
    deadline: float = 60.0,
    victims: tuple[str, ...] = VICTIMS,
) -> Plan:
    """Draw a run.

    Args:
        seed: decides everything that is left to chance, here and in the sandbox.
        jobs: how many.
        minutes: how long they are enqueued, at a steady rate.
        every: the usual time between two blows, seconds.
        redis_kills: how often Redis is killed, spread over the time.
        deadline: of the jobs that name none, seconds.
        victims: which processes are killed, in turn.
    """
    random = Random(seed)
    orders = tuple(_troubled(seed, _orders(random, seed, jobs, minutes * 60)))
    blows = tuple(_aimed(seed, _blows(random, minutes * 60, every, redis_kills, victims)))
    return Plan(seed, jobs, minutes, every, redis_kills, deadline, orders, blows)


def write_faults(folder: Path) -> Path:
    """The sandbox' fault script, as a file."""
    path = folder / "faults.yaml"
    rules = [{"share": share, "faults": faults} for share, faults in FAULTS]
    path.write_text(json.dumps(rules, indent=1), "utf-8")  # JSON is YAML
    return path


def picture() -> bytes:
    """The reference image of the jobs with a file."""
    buffer = BytesIO()
    Image.new("RGB", (64, 64), "teal").save(buffer, "PNG")
    return buffer.getvalue()


def _orders(random: Random, seed: int, jobs: int, seconds: float) -> Iterator[Order]:
    names = list(BUILT_IN)
    for number in range(jobs):
        if number % len(names) == 0:  # each provider as often as the others
            random.shuffle(names)
        provider = names[number % len(names)]
        wanted = dict(random.choice(REQUESTS[provider]))
        with_file = bool(wanted.pop("image_file", False))
        prompt = f"Picture {number} of chaos {seed}"
        body = {"provider": provider, "prompt": prompt, "metadata": {"number": number}, **wanted}
        if random.random() < HURRIED:
            body["deadline_seconds"] = round(random.uniform(*HURRY), 1)
        if random.random() < RESUBMITTED:
            body["on_unconfirmed"] = "resubmit"
        twice = random.random() < SENT_TWICE
        at = seconds * number / jobs
        yield Order(number, at, f"chaos-{seed}-{number}", body, with_file, twice)


def _blows(
    random: Random, seconds: float, every: float, redis_kills: int, victims: tuple[str, ...]
) -> Iterator[Blow]:
    """Each victim in turn, in an order that changes; Redis wherever a part of the time is over."""
    count = int(seconds / every) if victims else redis_kills
    gap = every if victims else seconds / (redis_kills + 1)
    hits = {round(count * (n + 1) / (redis_kills + 1)) for n in range(redis_kills)}
    waiting: list[str] = []
    for number in range(max(count, max(hits, default=-1) + 1)):
        # Now and then soon after another, while that one is still starting.
        after = gap * random.uniform(0.3, 1.7)
        if number in hits or not victims:
            yield Blow(after, REDIS, random.uniform(*AWAY))
            continue
        waiting = waiting or random.sample(victims, len(victims))
        yield Blow(after, waiting.pop())


def _troubled(seed: int, orders: Iterable[Order]) -> Iterator[Order]:
    """Some have callers with trouble; in an inbox of their own, so that it is theirs alone."""
    random = Random(f"{seed} troubles")
    for order in orders:
        lot = random.random()
        for share, trouble in TROUBLES:
            if 0 <= lot < share:
                yield replace(order, inbox=f"{INBOX}-{order.number}", trouble=trouble)
            lot -= share
        if lot >= 0:
            yield order


def _aimed(seed: int, blows: Iterable[Blow]) -> Iterator[Blow]:
    """Workers die at each of their tasks in turn."""
    random, turn = Random(f"{seed} aims"), 0
    for blow in blows:
        if blow.victim != "worker":
            yield blow
            continue
        aim = list(AIMS)[turn % len(AIMS)]
        turn += 1
        yield replace(blow, aim=aim, linger=random.uniform(0, AIMS[aim]))
