"""The Celery application for nudges and sweeps.

Its messages are hints. So it runs without acknowledgements, results, retries and ETAs. The ledger
holds all state, and a sweep replaces every lost message.
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
from orchestrator.callbacks.drain import SpoolDrainer
from orchestrator.callbacks.spool import Spool
from orchestrator.jobs.model import Step
from orchestrator.ledger import LedgerUnavailable
from orchestrator.messages import QUEUE, TASKS, TRANSPORT_OPTIONS
from orchestrator.runtime import default_runtime
from orchestrator.settings.environment import ConfigError
from orchestrator.steps.acceptance import record_spooled
from orchestrator.steps.archive import archive as archive_job
from orchestrator.steps.notify import notify as notify_job
from orchestrator.steps.poll import poll as poll_job
from orchestrator.steps.prune import prune as prune_now
from orchestrator.steps.reconcile import reconcile as sweep
from orchestrator.steps.submit import submit as submit_job
from orchestrator.storage.storage import StorageError
from workers.executor import StepExecutor

#: Time between sweeps. Seconds.
SWEEP_SECONDS = 1.0
#: A sweep message that no worker took within this time is dropped. Seconds.
SWEEP_EXPIRES_SECONDS = 5

#: The daily time of the prune step, UTC.
PRUNE_AT = {"hour": 3, "minute": 17}
#: Threads for archives and for notifications. Both wait for servers; archives also decode images.
ARCHIVE_THREADS, NOTIFY_THREADS = 16, 64
#: Jobs of each kind that may wait for a thread. Further jobs are nudged again by the next sweep.
BACKLOG = 200

STEPS = {
    Step.SUBMIT: submit_job,
    Step.POLL: poll_job,
    Step.ARCHIVE: archive_job,
    Step.NOTIFY: notify_job,
}


def celery_app(name: str, **settings: Any) -> Celery:
    """Return a Celery application on our broker. A wrong setting ends the process with one line."""
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
        # A Redis that refuses writes since a failover ends the worker otherwise.
        broker_channel_error_retry=True,
        worker_disable_rate_limits=True,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        enable_utc=True,
        **settings,
    )
    return app


app = celery_app(
    "orchestrator",
    task_default_queue=QUEUE,
    broker_transport_options=TRANSPORT_OPTIONS,
    beat_schedule={
        "sweep": {
            "task": "orchestrator.reconcile",
            "schedule": SWEEP_SECONDS,
            "options": {"expires": SWEEP_EXPIRES_SECONDS},
        },
        "prune": {"task": "orchestrator.prune", "schedule": crontab(**PRUNE_AT)},
    },
)


def _do(step: Step, job_id: str) -> None:
    STEPS[step](default_runtime(), job_id)


def _executor(**options: Any) -> StepExecutor:
    return StepExecutor(_do, stopping=lambda: state.should_stop is not None, **options)


# Submissions and polls are never dropped. Archives and notifications have their own threads, so
# slow links and slow callers delay no submission, and do not delay each other.
provider_steps = _executor()
archive_steps = _executor(threads=ARCHIVE_THREADS, backlog=BACKLOG)
notify_steps = _executor(threads=NOTIFY_THREADS, backlog=BACKLOG)


@app.task(name=TASKS[Step.SUBMIT])
def submit(job_ids: Sequence[str]) -> None:
    """Submit these jobs, in parallel."""
    provider_steps.execute(Step.SUBMIT, job_ids)


@app.task(name=TASKS[Step.POLL])
def poll(job_ids: Sequence[str]) -> None:
    """Poll these jobs, in parallel."""
    provider_steps.execute(Step.POLL, job_ids)


@app.task(name=TASKS[Step.ARCHIVE])
def archive(job_ids: Sequence[str]) -> None:
    """Archive the images of these jobs, in parallel."""
    archive_steps.execute(Step.ARCHIVE, job_ids)


@app.task(name=TASKS[Step.NOTIFY])
def notify(job_ids: Sequence[str]) -> None:
    """Notify the callers of these jobs, in parallel."""
    notify_steps.execute(Step.NOTIFY, job_ids)


@app.task(name="orchestrator.prune")
def prune() -> None:
    """Delete old jobs."""
    try:
        pruned = prune_now(default_runtime())
    except (LedgerUnavailable, StorageError) as error:
        log.get().warning("prune_failed", reason=str(error))
    else:
        log.get().info("prune_done", deleted=len(pruned))


@app.task(name="orchestrator.reconcile")
def reconcile() -> None:
    """Sweep: nudge every due job."""
    try:
        due = sweep(default_runtime())
    except LedgerUnavailable as error:
        log.get().warning("sweep_failed", reason=str(error))
    else:
        log.get().debug("sweep_done", due=due)


@signals.setup_logging.connect
def _configure_logs(**_: Any) -> None:
    log.configure()
    logging.getLogger("celery.app.trace").setLevel(logging.ERROR)


@signals.worker_ready.connect
def _start_drainer(**_: Any) -> None:
    """Record what an earlier worker spooled before it died."""
    runtime = default_runtime()
    if runtime.settings.spool_dir:
        SpoolDrainer(runtime, Spool(runtime.settings.spool_dir), record_spooled).start()


@signals.worker_shutdown.connect
def _finish_steps(**_: Any) -> None:
    """Finish the running steps. A step that does not end in time is continued by another worker."""
    ends = monotonic() + default_runtime().settings.drain_seconds
    executors = (provider_steps, notify_steps, archive_steps)
    left = [job for each in executors for job in each.drain(max(0.0, ends - monotonic()))]
    left += default_runtime().retry_queue.drain(max(0.0, ends - monotonic()))
    if left:
        log.get().warning("steps_unfinished", jobs=left)
        logging.shutdown()
        os._exit(0)  # threads that wait for a provider would keep the process running
