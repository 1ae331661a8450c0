"""`orchestrator get --celery-id`: the job of a Celery message, and bad input."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import main
from orchestrator.enqueuing import CELERY_SCOPE, create_job
from tests.support import job_states
from tests.support.cases import for_each
from tests.support.fakes import Harness

REQUEST = {"provider": "hiapi", "model": "Nano-Banana-2", "prompt": "A red cube"}

pytestmark = pytest.mark.usefixtures("harness")


def get(*words: str) -> Result:
    return CliRunner().invoke(main, ["get", *words])


def test_a_job_is_found_by_the_id_of_its_celery_task_and_by_its_tenant(harness: Harness) -> None:
    jobs = {
        tenant: create_job(
            harness.runtime, REQUEST, scope=CELERY_SCOPE, key="task-1", tenant=tenant
        ).job.id
        for tenant in ("default", "shop")
    }

    assert json.loads(get("--celery-id", "task-1", "--json").output)["id"] == jobs["default"]
    shops = get("--celery-id", "task-1", "--tenant", "shop", "--json")
    assert json.loads(shops.output)["id"] == jobs["shop"]


@for_each(
    ("words", "problem"),
    [
        ([], "name a job by JOB_ID or --celery-id"),
        (["job_1", "--celery-id", "task-1"], "JOB_ID and --celery-id exclude each other"),
        (["--celery-id", "task-2"], "of the tenant 'default' came from the Celery task 'task-2'"),
        (["--celery-id", "task-2"], "name its owner with --tenant"),
        (["--celery-id", ""], "--celery-id must be 1 to 255 printable characters"),
        (["--celery-id", "x" * 256], "--celery-id must be 1 to 255 printable characters"),
        (["--celery-id", "a\udcffb"], "--celery-id must be 1 to 255 printable characters"),
        (["--celery-id", "task-1", "--tenant", "no tenant"], "tenant must be"),
        (["\udcff"], "does not exist"),
    ],
)
def test_bad_input_is_one_clear_line(words: list[str], problem: str) -> None:
    done = get(*words)

    assert done.exit_code != 0
    assert isinstance(done.exception, SystemExit)
    assert problem in done.output


def test_a_retry_and_its_job_name_each_other(harness: Harness) -> None:
    old = job_states.refused(harness)
    new = json.loads(CliRunner().invoke(main, ["retry", old, "--json"]).output)

    assert new["retry_of"] == old
    assert f"retry of {old}" in get(new["id"]).output
    assert f"retried as {new['id']}" in get(old).output
