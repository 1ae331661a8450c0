"""The Celery application for nudges and sweeps.

Its messages are hints, so it runs without acknowledgements, results, retries or ETAs: the ledger
remembers everything, and the sweep brings back whatever a lost message was about.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from time import monotonic
from typing import Any

from celery import Celery, signals
from celery.schedules import crontab
from celery.worker import state

from orchestrator import log
from orchestrator.jobs.model import Step
from orchestrator.ledger import LedgerUnavailable
from orchestrator.messages import QUEUE, TASKS, TRANSPORT_OPTIONS
from orchestrator.runtime import default_runtime
from orchestrator.settings.environment import ConfigError
from orchestrator.steps.archive import archive as archive_job
from orchestrator.steps.notify import notify as notify_job
from orchestrator.steps.poll import poll as poll_job
from orchestrator.steps.prune import prune as prune_now
from orchestrator.steps.reconcile import reconcile as sweep
from orchestrator.steps.submit import submit as submit_job
from orchestrator.storage.storage import StorageError
from workers.executor import StepExecutor

#: Time between sweeps. A sweep message nobody took in that many sweeps is dropped. Seconds; count.
SWEEP_SECONDS = 1.0
SWEEP_EXPIRES = 5

#: When what is left of old jobs is cleared away: daily, at this time (UTC).
PRUNE_AT = {"hour": 3, "minute": 17}
#: Threads for archives, and for notifications: both wait for others' servers, archives also work.
ARCHIVISTS, MESSENGERS = 16, 64
#: How many of each may wait for a thread; what is over it comes again with the next sweep.
BACKLOG = 200

STEPS = {
    Step.SUBMIT: submit_job,
    Step.POLL: poll_job,
    Step.ARCHIVE: archive_job,
    Step.NOTIFY: notify_job,
}


def configured(name: str, **settings: Any) -> Celery:
    """A Celery application on our broker, or the end of the process with one clear line."""
    try:
        runtime = default_runtime()
    except ConfigError as error:
        sys.exit(f"orchestrator: {error}")
    app = Celery(name, broker=runtime.settings.broker_url, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_disable_rate_limits=True,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        enable_utc=True,
        **settings,
    )
    return app


app = configured(
    "orchestrator",
    task_default_queue=QUEUE,
    broker_transport_options=TRANSPORT_OPTIONS,
    beat_schedule={
        "sweep": {
            "task": "orchestrator.reconcile",
            "schedule": SWEEP_SECONDS,
            "options": {"expires": SWEEP_EXPIRES},
        },
        "prune": {"task": "orchestrator.prune", "schedule": crontab(**PRUNE_AT)},
    },
)


def _take(step: Step, job_id: str) -> None:
    STEPS[step](default_runtime(), job_id)


def _crew(**options: Any) -> StepExecutor:
    return StepExecutor(_take, stopping=lambda: state.should_stop is not None, **options)


# What leads to an outcome is never dropped. What follows from one has threads of its own, so that
# slow links and slow callers delay no submission, and neither delays the other.
crew = _crew()
archivists = _crew(threads=ARCHIVISTS, backlog=BACKLOG)
messengers = _crew(threads=MESSENGERS, backlog=BACKLOG)


@app.task(name=TASKS[Step.SUBMIT])
def submit(job_ids: Sequence[str]) -> None:
    """Submit these jobs, side by side."""
    crew.take(Step.SUBMIT, job_ids)


@app.task(name=TASKS[Step.POLL])
def poll(job_ids: Sequence[str]) -> None:
    """Poll these jobs, side by side."""
    crew.take(Step.POLL, job_ids)


@app.task(name=TASKS[Step.ARCHIVE])
def archive(job_ids: Sequence[str]) -> None:
    """Archive these jobs' images, side by side."""
    archivists.take(Step.ARCHIVE, job_ids)


@app.task(name=TASKS[Step.NOTIFY])
def notify(job_ids: Sequence[str]) -> None:
    """Tell these jobs' callers, side by side."""
    messengers.take(Step.NOTIFY, job_ids)


@app.task(name="orchestrator.prune")
def prune() -> None:
    """Clear away what is left of old jobs."""
    try:
        pruned = prune_now(default_runtime())
    except (LedgerUnavailable, StorageError) as error:
        log.get().warning("prune_failed", why=str(error))
    else:
        log.get().info("prune_done", forgotten=len(pruned))


@app.task(name="orchestrator.reconcile")
def reconcile() -> None:
    """Sweep: nudge every job that is due."""
    try:
        due = sweep(default_runtime())
    except LedgerUnavailable as error:
        log.get().warning("sweep_failed", why=str(error))
    else:
        log.get().debug("sweep_done", due=due)


@signals.setup_logging.connect
def _configure_logs(**_: Any) -> None:
    log.configure()
    logging.getLogger("celery.app.trace").setLevel(logging.ERROR)


@signals.worker_shutdown.connect
def _finish_steps(**_: Any) -> None:
    """A warm stop: what is in flight is finished, or handed back by the end of its lease."""
    ends = monotonic() + default_runtime().settings.drain_seconds
    crews = (crew, messengers, archivists)
    left = [job for each in crews for job in each.drain(max(0.0, ends - monotonic()))]
    if left:
        log.get().warning("steps_left", jobs=left)
        logging.shutdown()
        os._exit(0)  # threads that wait for a provider would keep the process alive
