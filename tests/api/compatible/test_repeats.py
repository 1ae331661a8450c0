"""Which requests join a job, and which make a new one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from orchestrator.api.compatible.held_call import JOB_HEADER
from orchestrator.enqueuing import create_job
from orchestrator.jobs.model import ErrorCode
from orchestrator.jobs.request import Target
from orchestrator.operations.repeated_requests import (
    ANSWER_LOST_MS,
    MAX_AGE_MS,
    REPEAT_SCOPE,
    Announcement,
    join_or_create,
    request_digest,
)
from orchestrator.operations.tenants import set_tenant
from tests.api.compatible.conftest import Compatible
from tests.api.conftest import Api
from tests.support.fakes import TENANT
from tests.support.web import WebApp

FIRST, REPEATED = {"X-Stainless-Retry-Count": "0"}, {"X-Stainless-Retry-Count": "1"}


def job_of(compatible: Compatible, **fields: object) -> str:
    """The job of an answer, whatever its status is."""
    return str(compatible.generate(**fields).headers[JOB_HEADER])


@pytest.mark.parametrize("headers", [{}, FIRST, REPEATED])
def test_a_request_joins_an_open_job_with_the_same_content(
    compatible: Compatible, headers: dict[str, str]
) -> None:
    job_id = compatible.begin(headers=FIRST)

    assert job_of(compatible, headers=headers) == job_id
    assert len(compatible.harness.nudges.sent) == 1


@pytest.mark.parametrize(
    "other", [{"prompt": "A blue cube"}, {"user": "another"}, {"model": "evolink/nano-banana-2"}]
)
def test_another_content_is_another_job(compatible: Compatible, other: dict[str, str]) -> None:
    assert job_of(compatible) != job_of(compatible, **other)


def test_another_caller_has_another_job(compatible: Compatible) -> None:
    theirs = compatible.begin()

    compatible.api = compatible.api.as_admin()

    assert job_of(compatible) != theirs


@pytest.mark.parametrize("headers", [{}, FIRST, REPEATED])
def test_an_outcome_that_nobody_was_answered_is_joined(
    compatible: Compatible, headers: dict[str, str]
) -> None:
    job_id = compatible.begin()
    compatible.succeed(job_id)
    compatible.harness.clock.forward(ANSWER_LOST_MS / 1000 + 1)

    answer = compatible.generate(headers=headers)

    assert (answer.status_code, answer.headers[JOB_HEADER]) == (200, job_id)
    assert answer.headers["Idempotent-Replay"] == "true"


def test_a_first_request_after_the_answer_makes_a_new_job(compatible: Compatible) -> None:
    job_id = compatible.begin(headers=FIRST)
    compatible.succeed(job_id)
    assert job_of(compatible, headers=FIRST) == job_id

    assert job_of(compatible, headers=FIRST) != job_id


def test_a_repeated_request_after_the_answer_gets_it_again(compatible: Compatible) -> None:
    job_id = compatible.begin(headers=FIRST)
    compatible.succeed(job_id)
    assert job_of(compatible, headers=FIRST) == job_id
    compatible.harness.clock.forward(600)

    assert job_of(compatible, headers=REPEATED) == job_id


def test_a_client_that_says_nothing_gets_an_answer_again_for_a_short_time(
    compatible: Compatible,
) -> None:
    job_id = compatible.begin()
    compatible.succeed(job_id)

    for _ in range(3):  # further answers do not make the time longer
        assert job_of(compatible) == job_id
        compatible.harness.clock.forward(ANSWER_LOST_MS / 3000)
    compatible.harness.clock.forward(1)

    assert job_of(compatible) != job_id


def test_an_old_outcome_is_not_joined(compatible: Compatible) -> None:
    job_id = compatible.begin()
    compatible.succeed(job_id)
    compatible.harness.clock.forward(MAX_AGE_MS / 1000 + 1)

    assert job_of(compatible, headers=REPEATED) != job_id


def test_a_failure_is_joined_as_a_success_is(compatible: Compatible) -> None:
    job_id = compatible.begin()
    compatible.fail(job_id, ErrorCode.SUBMISSION_UNCONFIRMED)

    assert job_of(compatible) == job_id
    assert job_of(compatible, headers=REPEATED) == job_id


def test_each_new_job_is_joined_in_its_turn(compatible: Compatible) -> None:
    jobs = []
    for _ in range(3):
        job_id = compatible.begin(headers=FIRST)
        assert job_of(compatible, headers=REPEATED) == job_id
        compatible.succeed(job_id)
        assert compatible.generate(headers=FIRST).status_code == 200
        jobs.append(job_id)

    assert len(set(jobs)) == 3


def test_requests_at_the_same_time_make_one_job(compatible: Compatible) -> None:
    with ThreadPoolExecutor(8) as threads:
        jobs = set(threads.map(lambda _: job_of(compatible, headers=FIRST), range(8)))

    assert len(jobs) == 1


def test_a_lost_hint_makes_no_second_job(compatible: Compatible) -> None:
    """The process died between the job and the note about it."""
    job_id = compatible.begin(headers=FIRST)
    for key in compatible.harness.redis.scan_iter("*repeat:*"):
        compatible.harness.redis.delete(key)

    assert job_of(compatible, headers=FIRST) == job_id


def test_a_route_that_changed_meanwhile_makes_no_second_job(compatible: Compatible) -> None:
    """The same name means another model now. The open job is joined all the same."""
    asked = {"provider": "hiapi", "model": "Nano-Banana-2", "prompt": "A red cube"}
    digest = request_digest("test", "an old route")
    first = create_job(
        compatible.harness.runtime, asked, scope=REPEAT_SCOPE, tenant="test", key=f"{digest}:"
    )

    joined = join_or_create(
        compatible.harness.runtime,
        {**asked, "prompt": "of another model"},
        digest=digest,
        announced=Announcement.FIRST,
        tenant="test",
    )

    assert (joined.job.id, joined.replayed) == (first.job.id, True)


ROUTES = {
    "another model": {"our-images": (Target("hiapi", "gpt-image-2-preview"),)},
    "another provider": {"our-images": (Target("evolink", "gpt-image-2"),)},
    "no provider": {"our-images": (Target("hiapi", "no-such-model"),)},
    "no route": {},
}


@pytest.mark.parametrize("change", ROUTES)
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "order-1"}])
@pytest.mark.parametrize("n", [1, 2])
def test_a_route_that_changes_keeps_the_jobs_of_earlier_calls(
    open_compatible: Callable[..., Compatible], headers: dict[str, str], n: int, change: str
) -> None:
    old = open_compatible(ORCHESTRATOR_MODEL_ROUTES="our-images=hiapi/Nano-Banana-2")
    asked: dict[str, Any] = {"model": "our-images", "n": n, "headers": {**headers, **REPEATED}}
    jobs = [each.id for each in old.all_jobs(n, **asked)]
    new = with_settings(old, model_routes=ROUTES[change])

    joined = new.generate(**asked)

    assert joined.status_code == 200, joined.text
    assert joined.headers[JOB_HEADER].split(", ") == jobs
    assert joined.headers["Idempotent-Replay"] == "true"
    other = new.generate(**asked, prompt="A blue cube")
    assert other.status_code != 200
    assert other.headers.get(JOB_HEADER) not in jobs


def test_a_provider_that_is_switched_off_keeps_the_jobs_of_earlier_calls(
    compatible: Compatible,
) -> None:
    job_id = compatible.begin()
    compatible.succeed(job_id)
    off = with_settings(compatible, providers={})

    assert job_of(off, headers=FIRST) == job_id, "nobody was answered its outcome"
    assert off.generate(headers=FIRST).status_code == 404
    assert job_of(off, headers=REPEATED) == job_id
    assert compatible.harness.ledger.overview.size() == 1


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "order-1"}])
def test_some_of_the_jobs_are_no_answer_after_a_change(
    open_compatible: Callable[..., Compatible], headers: dict[str, str]
) -> None:
    """The second job was refused, for a limit, when the route had its old model."""
    old = open_compatible(ORCHESTRATOR_MODEL_ROUTES="our-images=hiapi/Nano-Banana-2")
    set_tenant(old.harness.runtime, TENANT, {"max_open": "1"}, actor="tests")
    asked: dict[str, Any] = {"model": "our-images", "n": 2, "headers": headers}
    assert old.generate(**asked).status_code == 429
    new = with_settings(old, model_routes={})

    assert new.generate(**asked).status_code == 404


def with_settings(compatible: Compatible, **changes: Any) -> Compatible:
    """The same installation after a start with other settings."""
    harness = compatible.harness.with_settings(**changes)
    return Compatible(Api(harness, WebApp(harness.runtime)))


def test_an_idempotency_key_decides_alone(compatible: Compatible) -> None:
    key = {"Idempotency-Key": "order-1"}
    job_id = compatible.begin(headers={**key, **FIRST})
    compatible.succeed(job_id)
    for _ in range(2):
        assert job_of(compatible, headers={**key, **FIRST}) == job_id

    other = compatible.generate(prompt="A blue cube", headers=key)
    assert other.status_code == 400
    assert other.json
    assert other.json["error"]["code"] == "idempotency_mismatch"
    assert job_of(compatible, headers={"Idempotency-Key": "order-2"}) != job_id
