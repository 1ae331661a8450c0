"""Each way a job can go, on real processes, to its one outcome and one charge.

All jobs are enqueued at once, and each test waits for its own: most of the time is waiting.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from uuid import uuid4

import pytest
import requests
from PIL import Image

from orchestrator.clock import now_ms
from orchestrator.jobs.request import JobRequest
from orchestrator.ledger import Ledger
from orchestrator.providers import BUILT_IN
from tests.support.providers import (
    ACCEPTING_FILES,
    CALLING,
    EXAMPLE_MODELS,
    EXAMPLE_REQUESTS,
    HINTING,
    KEYED,
    POLLED,
    POLLED_WITH_KEYS,
    POLLED_WITHOUT_KEYS,
    SETTLING,
    SIGNING,
)
from tests.system.conftest import Client, eventually

PROVIDERS = list(BUILT_IN)


@dataclass(frozen=True, eq=False)
class JobScene:
    """A job to enqueue; its prompt is its own, so that its provider tasks can be told apart."""

    provider: str
    fault: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.provider} {self.fault or 'plain'}"


SCENES: list[JobScene] = []


def scene(provider: str, fault: str = "", **options: Any) -> JobScene:
    """A scene that is enqueued with all the others."""
    SCENES.append(JobScene(provider, fault, options))
    return SCENES[-1]


PLAIN = [scene(provider) for provider in SETTLING]
HINTED = [scene(provider) for provider in HINTING]
BY_KEYS = [scene(provider, "duplicate=3") for provider in KEYED]
NEVER_CALLED = [scene(provider) for provider in POLLED]
AT_ONCE = scene(POLLED_WITHOUT_KEYS, "early")
SEVERAL = scene(POLLED_WITHOUT_KEYS, model="gpt-image-2", aspect_ratio="16:9", n=3)
FAMILY = [scene(p, model="nano-banana-2", resolution="2K") for p in PROVIDERS]
LOST = [scene(provider, "drop") for provider in CALLING]
DOUBLED = [scene(provider, "duplicate=5") for provider in SETTLING]
EARLY = [scene(provider, "early") for provider in SETTLING]
CONFLICT = [scene(provider, "conflict") for provider in SETTLING]
REFUSED = scene("evolink", "fail=content_policy_violation")
# EvoLink's own 503 asks for 30 seconds, and would get them.
LATER = [
    *(scene(provider, "429=1") for provider in PROVIDERS),
    scene("evolink", "500"),
    scene(POLLED_WITHOUT_KEYS, "503"),
]
AMBIGUOUS = ("lost_response", "502_html", "hang=12")
ASKED_AGAIN = [
    *(scene("hiapi", f"{fault}, drop") for fault in AMBIGUOUS),
    *(scene(POLLED_WITH_KEYS, fault) for fault in AMBIGUOUS),
]
#: The provider's own 5xx proves nothing at a provider with keys.
OWN_5XX = [
    scene(provider, fault) for provider in ("hiapi", POLLED_WITH_KEYS) for fault in ("500", "503")
]
CALLED_BACK = [scene("evolink", f"{fault}, late=11s") for fault in AMBIGUOUS]
UNCONFIRMED = [
    scene("evolink", "lost_response, drop", deadline_seconds=3),
    *(scene(POLLED_WITHOUT_KEYS, fault) for fault in AMBIGUOUS),
]
RESUBMITTED = [
    scene("evolink", "lost_response, drop", deadline_seconds=40, on_unconfirmed="resubmit"),
    scene(POLLED_WITHOUT_KEYS, "lost_response", on_unconfirmed="resubmit"),
]
ENDLESS = scene("hiapi", "slow=600", deadline_seconds=3)
FORGOTTEN = [
    scene(POLLED_WITH_KEYS, "forget", deadline_seconds=4),
    scene("hiapi", "forget, drop", deadline_seconds=4),
]
EMPTY = [scene(provider, "thin_success=both") for provider in PROVIDERS]
FORGED = scene("evolink", "slow=1")
#: Somebody who saw the callback URL, and has no secret of the provider.
IMPOSTORS = [scene(provider, "forged") for provider in SIGNING]


@dataclass(frozen=True)
class Played:
    """A scene's job on the running stack."""

    client: Client
    text: str
    job_id: str

    def outcome(self) -> dict[str, Any]:
        return self.client.outcome(self.job_id)

    def timeline(self) -> list[str]:
        """The events of its way to the outcome; what follows has tests of its own."""
        return [e for e in self.client.timeline(self.job_id) if not e.startswith("archive_")]

    def tasks(self) -> list[dict[str, Any]]:
        """What the provider made, and charged."""
        return self.client.tasks(self.text)


def played(client: Client, one: JobScene) -> Played:
    """Enqueue a scene's job."""
    text = f"{uuid4()} [sandbox: {one.fault}]" if one.fault else str(uuid4())
    return Played(client, text, client.enqueue(one.provider, text, **one.options))


Cast = Mapping[JobScene, Played]


@pytest.fixture(scope="module")
def cast(stack: Any) -> Cast:
    client, cast = Client(stack), {}

    for one in SCENES:
        if one not in LATER:
            cast[one] = played(client, one)
    # A refusal for now pauses its provider. So the other jobs are submitted before.
    ids = [each.job_id for each in cast.values()]
    eventually(lambda: all(client.job(job_id)["status"] != "queued" for job_id in ids))
    for one in LATER:
        cast[one] = played(client, one)
    return cast


def test_a_forged_callback_changes_nothing(cast: Cast) -> None:
    job = cast[FORGED]
    task = eventually(job.tasks)[0]
    lie = {"id": task["id"], "status": "failed", "error": {"code": "x", "message": "y"}}
    real = task["callback_url"]
    forged = real[:-2] + ("AA" if real[-2:] != "AA" else "BB")
    assert requests.post(forged, json=lie, timeout=60).status_code == 404
    assert job.outcome()["status"] == "succeeded"
    assert job.timeline() == ["created", "submitting", "accepted", "settled"]


@pytest.mark.parametrize("one", PLAIN, ids=str)
def test_a_callback_settles_the_job(cast: Cast, one: JobScene) -> None:
    job = cast[one].outcome()
    assert (job["status"], job["settled_by"]) == ("succeeded", "callback")
    assert cast[one].timeline() == ["created", "submitting", "accepted", "settled"]
    assert len(cast[one].tasks()) == 1
    picture = requests.get(job["images"][0]["source_url"], timeout=60)
    assert picture.headers["Content-Type"] == "image/png"


@pytest.mark.parametrize("one", HINTED, ids=str)
def test_a_callback_that_is_a_hint_makes_a_poll_settle_the_job(cast: Cast, one: JobScene) -> None:
    job = cast[one].outcome()
    assert (job["status"], job["settled_by"]) == ("succeeded", "poll")
    (task,) = cast[one].tasks()
    assert [(sent["kind"], sent["status"]) for sent in task["callbacks"]] == [("true", 200)]


@pytest.mark.parametrize("one", NEVER_CALLED, ids=str)
def test_without_callbacks_a_poll_settles_the_job(cast: Cast, one: JobScene) -> None:
    job = cast[one].outcome()
    assert (job["status"], job["settled_by"]) == ("succeeded", "poll")
    assert cast[one].timeline()[:3] == ["created", "submitting", "accepted"]
    assert len(cast[one].tasks()) == 1
    picture = requests.get(job["images"][0]["source_url"], timeout=60)
    assert picture.headers["Content-Type"] == "image/png"


def test_an_answer_that_is_done_already_settles_the_job(cast: Cast) -> None:
    job = cast[AT_ONCE].outcome()
    assert (job["status"], job["settled_by"]) == ("succeeded", "submit")
    assert cast[AT_ONCE].timeline() == ["created", "submitting", "settled"]
    (task,) = cast[AT_ONCE].tasks()
    assert task["id"] == job["attempts"][0]["task_id"]


def test_several_images_come_of_one_task(cast: Cast) -> None:
    job = cast[SEVERAL].outcome()
    assert len({image["source_url"] for image in job["images"]}) == 3
    assert len(cast[SEVERAL].tasks()) == 1


@pytest.mark.parametrize("one", FAMILY, ids=str)
def test_one_request_goes_to_every_provider(cast: Cast, one: JobScene) -> None:
    job = cast[one].outcome()
    assert (job["status"], job["model"]) == ("succeeded", "nano-banana-2")
    (task,) = cast[one].tasks()
    own = BUILT_IN[one.provider].families["nano-banana-2"]
    assert task["model"] == own.tiers.get("2K", own.default)


def test_a_file_goes_to_the_provider(client: Client) -> None:
    text = str(uuid4())
    buffer = BytesIO()
    Image.new("RGB", (64, 64), "teal").save(buffer, "PNG")
    job = {**EXAMPLE_REQUESTS[ACCEPTING_FILES[0]], "prompt": text}
    files = {"job": (None, json.dumps(job)), "image_file": ("teal.png", buffer.getvalue())}
    done = client.outcome(client.post(files=files))
    assert done["status"] == "succeeded"
    assert done["request"]["image_file"]["bytes"] == len(buffer.getvalue())
    assert len(client.tasks(text)) == 1


@pytest.mark.parametrize("one", IMPOSTORS, ids=str)
def test_a_callback_needs_the_providers_own_signature(cast: Cast, one: JobScene) -> None:
    assert cast[one].outcome()["status"] == "succeeded"
    (task,) = cast[one].tasks()
    answers = [(sent["kind"], sent["status"]) for sent in task["callbacks"]]
    assert answers == [("forged", 404), ("forged", 401), ("true", 200)]


@pytest.mark.parametrize("one", BY_KEYS, ids=str)
def test_callbacks_before_and_after_the_keys_are_known(cast: Cast, one: JobScene) -> None:
    job = cast[one].outcome()
    assert job["status"] == "succeeded"
    (task,) = cast[one].tasks()
    assert {sent["status"] for sent in task["callbacks"]} <= {200, 503}

    def settled_by_a_callback() -> bool:
        later = JobScene(one.provider)
        return bool(played(cast[one].client, later).outcome()["settled_by"] == "callback")

    eventually(settled_by_a_callback)
    forged = played(cast[one].client, JobScene(one.provider, "forged"))
    assert forged.outcome()["status"] == "succeeded"
    (task,) = forged.tasks()
    answers = [(sent["kind"], sent["status"]) for sent in task["callbacks"]]
    # A signature by an unknown key may be a hint, once a minute.
    assert answers in (
        [("forged", 404), ("forged", 401), ("true", 200)],
        [("forged", 404), ("forged", 200), ("true", 200)],
    )


@pytest.mark.parametrize("one", LOST, ids=str)
def test_a_lost_callback_is_made_up_for_by_a_poll(cast: Cast, one: JobScene) -> None:
    job = cast[one].outcome()
    assert (job["status"], job["settled_by"]) == ("succeeded", "poll")
    assert job["images"]


@pytest.mark.parametrize("one", DOUBLED, ids=str)
def test_five_callbacks_at_once_settle_once(cast: Cast, one: JobScene) -> None:
    cast[one].outcome()
    # The sandbox sends a callback again if the answer took too long.
    eventually(lambda: cast[one].timeline().count("duplicate") >= 4)
    assert cast[one].timeline().count("settled") == 1


@pytest.mark.parametrize("one", EARLY, ids=str)
def test_a_callback_before_the_answer_settles_the_job(cast: Cast, one: JobScene) -> None:
    job = cast[one].outcome()
    assert (job["status"], job["settled_by"]) == ("succeeded", "callback")
    eventually(lambda: "accepted" in cast[one].timeline())
    timeline = cast[one].timeline()
    assert timeline.index("settled") < timeline.index("accepted")
    assert cast[one].outcome()["status"] == "succeeded"
    assert len(cast[one].tasks()) == 1


@pytest.mark.parametrize("one", CONFLICT, ids=str)
def test_a_contradicting_second_callback_changes_nothing(cast: Cast, one: JobScene) -> None:
    first = cast[one].outcome()
    eventually(lambda: "conflict" in cast[one].timeline())
    assert cast[one].outcome()["status"] == first["status"] == "succeeded"


def test_a_failure_keeps_the_provider_s_words(cast: Cast) -> None:
    job = cast[REFUSED].outcome()
    assert (job["status"], job["settled_by"]) == ("failed", "callback")
    assert job["error"]["code"] == "content_policy"
    assert job["error"]["provider_code"] == "content_policy_violation"
    assert job["error"]["message"]


@pytest.mark.parametrize("one", LATER, ids=str)
def test_a_no_for_now_is_tried_again_and_paid_once(cast: Cast, one: JobScene) -> None:
    job = cast[one].outcome()
    assert job["status"] == "succeeded"
    assert len(job["attempts"]) == 2
    assert len(cast[one].tasks()) == 1


@pytest.mark.parametrize("one", OWN_5XX, ids=str)
def test_after_the_providers_own_5xx_the_same_key_is_sent_again(cast: Cast, one: JobScene) -> None:
    job = cast[one].outcome()
    assert (job["status"], len(job["attempts"])) == ("succeeded", 1)
    assert len(cast[one].tasks()) == 1


@pytest.mark.parametrize("one", ASKED_AGAIN, ids=str)
def test_a_lost_answer_is_asked_for_again_with_the_same_key(cast: Cast, one: JobScene) -> None:
    job = cast[one].outcome()
    assert job["status"] == "succeeded"
    assert len(job["attempts"]) == 1
    timeline = cast[one].timeline()
    assert timeline.index("unconfirmed") < timeline.index("accepted")
    (task,) = cast[one].tasks()
    assert task["submissions"] >= 2
    assert task["id"] == job["attempts"][0]["task_id"]


@pytest.mark.parametrize("one", CALLED_BACK, ids=str)
def test_a_lost_answer_is_made_up_for_by_the_callback(cast: Cast, one: JobScene) -> None:
    job = cast[one].outcome()
    assert (job["status"], job["settled_by"]) == ("succeeded", "callback")
    assert cast[one].timeline() == ["created", "submitting", "unconfirmed", "settled"]
    (task,) = cast[one].tasks()
    assert task["submissions"] == 1
    assert task["id"] == job["attempts"][0]["task_id"]


@pytest.mark.parametrize("one", UNCONFIRMED, ids=str)
def test_without_answer_and_callback_the_job_fails_and_nothing_is_paid_again(
    cast: Cast, one: JobScene
) -> None:
    job = cast[one].outcome()
    assert job["status"] == "failed"
    assert job["error"]["code"] == "submission_unconfirmed"
    assert len(cast[one].tasks()) == 1


@pytest.mark.parametrize("one", RESUBMITTED, ids=str)
def test_a_job_that_says_so_is_submitted_again_after_an_unconfirmed_attempt(
    cast: Cast, one: JobScene
) -> None:
    job = cast[one].outcome()
    assert (job["status"], job["settled_by"]) == ("succeeded", "poll")
    assert len(job["attempts"]) == 2
    assert "resubmitted" in cast[one].timeline()


def test_a_task_that_never_ends_fails_at_the_deadline(cast: Cast) -> None:
    job = cast[ENDLESS].outcome()
    assert (job["status"], job["settled_by"]) == ("failed", "deadline")
    assert job["error"]["code"] == "deadline_exceeded"


@pytest.mark.parametrize("one", FORGOTTEN, ids=str)
def test_a_task_that_the_provider_forgot_ends_at_the_deadline(cast: Cast, one: JobScene) -> None:
    job = cast[one].outcome()
    assert (job["status"], job["settled_by"]) == ("failed", "deadline")
    assert "not found" in job["error"]["message"]


@pytest.mark.parametrize("one", EMPTY, ids=str)
def test_a_success_without_an_image_is_a_failure_that_may_pass(cast: Cast, one: JobScene) -> None:
    job = cast[one].outcome()
    assert (job["status"], job["error"]["code"]) == ("failed", "generation_failed")
    assert job["error"]["retryable"] is True
    assert cast[one].timeline().count("settled") == 1


def test_a_job_whose_nudge_was_lost_is_found_by_the_sweep(client: Client) -> None:
    ledger = Ledger.from_url(client.stack.redis_url or "")
    request = JobRequest("hiapi", EXAMPLE_MODELS["hiapi"], {"prompt": "Nobody was told"})
    now = now_ms()
    made = ledger.create(request, now=now, deadline_at=now + 60_000)
    assert client.outcome(made.job_id)["status"] == "succeeded"


def test_a_hundred_jobs_at_once_all_end_once_and_are_paid_once(client: Client) -> None:
    text, providers = str(uuid4()), PROVIDERS * 25
    with ThreadPoolExecutor(16) as pool:
        ids = list(pool.map(lambda provider: client.enqueue(provider, text), providers))
        jobs = list(pool.map(client.outcome, ids))
    assert [job["error"] for job in jobs if job["status"] != "succeeded"] == []
    tasks = client.tasks(text)
    assert len(tasks) == len(ids)
    assert {job["attempts"][0]["task_id"] for job in jobs} == {task["id"] for task in tasks}
