"""The Celery application for nudges and sweeps.

Its messages are hints. So it runs without acknowledgements, results, retries and ETAs. The ledger
holds all state, and a sweep replaces every lost message.
"""

from __future__ import annotations

import logging
import os
import resource
import threading
import warnings
from collections.abc import Mapping
from contextlib import closing, suppress
from time import monotonic
from typing import Any
from uuid import uuid4

from celery import signals
from celery.exceptions import CPendingDeprecationWarning
from celery.worker import state

from orchestrator import garbage_collection, log, tracing
from orchestrator.callbacks.drain import SpoolDrainer
from orchestrator.callbacks.spool import Spool
from orchestrator.heartbeat import Heartbeat
from orchestrator.jobs.model import Step
from orchestrator.ledger import LedgerUnavailable
from orchestrator.messages import (
    ARCHIVE_QUEUE,
    ECHO,
    QUEUE,
    SENT_MS,
    TASKS,
    TRANSIENT,
    Broker,
    JobsByProvider,
    queue_of,
    transport_options,
)
from orchestrator.metrics import definitions as metrics
from orchestrator.metrics.labels import StepFailure
from orchestrator.runtime import default_runtime
from orchestrator.servers.rabbitmq import nudge_queue
from orchestrator.steps.acceptance import record_spooled
from orchestrator.steps.archive import archive
from orchestrator.steps.batch import batch
from orchestrator.steps.bulk import act_on_parts
from orchestrator.steps.confirm import confirm
from orchestrator.steps.notify import notify
from orchestrator.steps.poll import poll
from orchestrator.steps.prune import prune as prune_now
from orchestrator.steps.reconcile import reconcile as sweep
from orchestrator.steps.reconcile import take_due
from orchestrator.steps.submit import submit
from orchestrator.storage.storage import StorageError
from workers.beat_scheduler import WatchedScheduler
from workers.celery_app import broker_url, celery_app, process_runtime
from workers.consumer_watch import ConsumerWatch, run_again
from workers.lanes import Lanes, RefillableLanes
from workers.schedule import beat_schedule
from workers.sweep_watch import SweepWatch
from workers.sweeper import Sweeper, SweepTimer

STEPS = {
    Step.SUBMIT: submit,
    Step.POLL: poll,
    Step.ARCHIVE: archive,
    Step.NOTIFY: notify,
    Step.CONFIRM: confirm,
    Step.BATCH: batch,
}


app = celery_app(
    "orchestrator",
    task_default_queue=QUEUE,
    # What a worker reads without --queues.
    task_queues=[nudge_queue(name, broker_url()) for name in (QUEUE, ARCHIVE_QUEUE)],
    task_default_routing_key=QUEUE,
    task_default_delivery_mode=TRANSIENT,
    # beat's connection may be dead without being closed. RabbitMQ's confirms show that.
    broker_transport_options=transport_options(broker_url(), confirms=True),
    beat_schedule=beat_schedule(process_runtime().settings.sweep_seconds),
    beat_scheduler="workers.beat_scheduler:WatchedScheduler",
)


def _do(step: Step, job_id: str) -> None:
    STEPS[step](default_runtime(), job_id)


def _reads(queue: str) -> bool:
    """Return whether this worker reads a queue: see --queues."""
    return queue in app.amqp.queues.consume_from


def _count(step: Step, reason: StepFailure) -> None:
    default_runtime().timings.add(metrics.STEP_FAILURES, step.value, reason.value)


#: The Celery task of a message that does nothing.
PING = "orchestrator.ping"
#: Time between two signs of life of Celery's message loop. Seconds.
TICK_SECONDS = 2.0
#: beat may wait for a broker that is away. A restart costs nothing: it keeps nothing. Seconds.
BEAT_HUNG_SECONDS = 45.0
#: A process that hangs finishes its steps in this time before it starts anew. Seconds.
RESTART_SECONDS = 20.0
#: It waits this much longer for locks that its message loop may hold. Seconds.
LOCK_SECONDS = 5.0
#: Every call in progress is an open file. A worker needs no more than this.
MAX_OPEN_FILES = 65_536

#: This process hangs, and is about to start anew.
restarting = threading.Event()


def stopping() -> bool:
    """Return whether this process ends, or starts anew."""
    ends = state.should_stop is not None or state.should_terminate is not None
    return ends or restarting.is_set()


def begins_nothing() -> bool:
    """Return whether this process starts no further step: it ends, or does not fit the ledger."""
    return stopping() or default_runtime().ledger.installation.mismatch is not None


lanes: Lanes = Lanes(
    _do,
    default_runtime().settings,
    stopping=begins_nothing,
    refill=lambda: sweeper.refill(),  # noqa: PLW0108  # it is created below
    count=_count,
    serves=lambda step: _reads(queue_of(step)),
)
sweeper: Sweeper = Sweeper(
    lambda: sweep(default_runtime(), lanes),
    lambda: take_due(default_runtime(), RefillableLanes(lanes)),
)
#: The sweeps of a worker that does nothing but archives.
archives: Sweeper = Sweeper(lambda: take_due(default_runtime(), lanes), name="archives")
#: Bulk actions have a thread of their own, so that they delay neither a sweep nor a step.
bulk: Sweeper = Sweeper(lambda: act_on_parts(default_runtime(), begins_nothing), name="bulk")

#: The sign of life of this process, once it runs.
heartbeats: list[Heartbeat] = []
#: Restarts this process if it hangs, once it runs.
watches: list[ConsumerWatch] = []


class OwnQueues:
    """The queues that this worker reads, over a new connection at each call."""

    def ping(self) -> None:
        """Send a message that does nothing to one of the queues."""
        queue = QUEUE if _reads(QUEUE) else ARCHIVE_QUEUE
        with closing(Broker(broker_url())) as broker:
            broker.publish(PING, [], queue=queue, message_id=str(uuid4()))

    def waiting(self) -> int:
        """Return how many messages wait in the queues."""
        read = [queue for queue in (QUEUE, ARCHIVE_QUEUE) if _reads(queue)]
        return sum(Broker(broker_url()).waiting(read).values())


def note_message() -> None:
    """Note that this process reads messages."""
    for watch in watches:
        watch.heard()


def _add_task(step: Step) -> None:
    """Add the Celery task of a step."""

    @app.task(name=TASKS[step])
    def offer(jobs: JobsByProvider) -> None:
        """Give the jobs of a nudge to their lanes. Those without a place are left to the agenda."""
        note_message()
        sent = app.current_task.request.get(SENT_MS) if app.current_task else None
        if isinstance(sent, int):
            default_runtime().tell_time(sent)
        # An earlier version named no providers. The sweep brings its jobs.
        if isinstance(jobs, Mapping):
            lanes.offer(step, jobs)


for _step in STEPS:
    _add_task(_step)


@app.task(name=ECHO)
def echo(token: str) -> None:
    """Answer the message of a check, in a thread, because Redis may be slow. intake has it, too."""
    threading.Thread(target=_answer_echo, args=(str(token)[:64],), daemon=True).start()


def _answer_echo(token: str) -> None:
    with suppress(LedgerUnavailable):  # doctor says that nothing came back
        default_runtime().ledger.echoes.answer(token)


@app.task(name="orchestrator.prune")
def prune() -> None:
    """Delete old jobs, in a thread of its own. A process that ends meanwhile leaves the rest."""
    threading.Thread(target=_prune, name="prune", daemon=True).start()


def _prune() -> None:
    try:
        pruned = prune_now(default_runtime())
    except (LedgerUnavailable, StorageError) as error:
        log.get().warning("prune_failed", reason=str(error))
    except Exception:  # noqa: BLE001  # the end of a thread is in no line of the log
        log.get().exception("prune_crashed")
    else:
        log.get().info("prune_done", deleted=len(pruned))


@app.task(name="orchestrator.reconcile")
def reconcile() -> None:
    """Sweep: take every due job that has a place in a lane, and go on with bulk actions."""
    note_message()
    if begins_nothing():
        return  # the health checks then miss the sweeps
    sweeper.sweep()
    bulk.sweep()


@app.task(name=PING)
def ping() -> None:
    """Note that this process reads messages. A worker that got none for long sends this one."""
    note_message()


@signals.setup_logging.connect
def _configure_logs(**_: Any) -> None:
    log.configure()
    tracing.configure()
    logging.getLogger("celery.app.trace").setLevel(logging.ERROR)
    # Celery announces a change of its next version at each new connection.
    warnings.simplefilter("ignore", CPendingDeprecationWarning)


@signals.worker_ready.connect
def _start_threads(sender: Any, **_: Any) -> None:
    """Watch the sweeps, and record what an earlier worker spooled before it died."""
    _allow_open_files()
    runtime = default_runtime()
    heartbeats.append(Heartbeat(runtime, "worker" if sender.app is app else "intake"))
    heartbeats[-1].start()
    _watch_consumer(sender)
    if sender.app is app and not _reads(QUEUE):  # beat asks the readers of that queue for sweeps
        SweepTimer(archives.sweep, runtime.settings.sweep_seconds).start()
    else:
        SweepWatch(runtime).start()
    if sender.app is app and not _reads(ARCHIVE_QUEUE):
        log.get().info("archives_elsewhere", queue=ARCHIVE_QUEUE)
    if runtime.settings.spool_dir:
        SpoolDrainer(runtime, Spool(runtime.settings.spool_dir), record_spooled).start()
    garbage_collection.tune()


def _watch_consumer(consumer: Any) -> None:
    """Restart this process if Celery's consumer hangs. `intake` may get no message for hours."""
    watch = ConsumerWatch(
        OwnQueues() if consumer.app is app else None,
        connecting=lambda: consumer.connection is None,
        stopping=stopping,
        restart=_restart,
    )
    watches.append(watch)
    if consumer.hub:
        consumer.hub.call_repeatedly(TICK_SECONDS, watch.tick)
        watch.start()


def _restart(reason: str) -> None:
    """Start this process anew. A step that does not end soon is continued by another worker.

    The message loop may hang with a lock that another thread needs, such as that of the log. So
    nothing that waits for one holds up the new start for long.
    """
    if default_runtime().retry_queue.drain(0):
        return  # this process alone knows what a provider answered while Redis was away
    ending = threading.Thread(target=_end_before_restart, args=(reason,), daemon=True)
    ending.start()
    ending.join(RESTART_SECONDS + LOCK_SECONDS)
    run_again()


def _end_before_restart(reason: str) -> None:
    """Finish the running steps, as far as the hanging message loop lets them end."""
    restarting.set()
    log.get().error("process_stuck", reason=reason, action="this process starts anew")
    left = _finish(min(RESTART_SECONDS, default_runtime().settings.drain_seconds))
    if left:
        log.get().warning("steps_unfinished", jobs=left)


def _allow_open_files() -> None:
    """Raise this process's limit of open files as far as the system allows. Often it is 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


@signals.beat_init.connect
def _start_beat(**_: Any) -> None:
    heartbeats.append(Heartbeat(default_runtime(), "beat"))
    heartbeats[-1].start()
    WatchedScheduler.watch = ConsumerWatch(
        None,
        connecting=lambda: False,
        stopping=lambda: False,
        restart=_restart,
        hung_seconds=BEAT_HUNG_SECONDS,
    )
    WatchedScheduler.watch.start()


@signals.worker_shutdown.connect
def _finish_steps(**_: Any) -> None:
    """Finish the running steps. A step that does not end in time is continued by another worker."""
    left = _finish(default_runtime().settings.drain_seconds)
    if left:
        log.get().warning("steps_unfinished", jobs=left)
        logging.shutdown()
        os._exit(0)  # threads that wait for a provider would keep the process running


def _finish(seconds: float) -> list[str]:
    """Finish the running steps in this time. Return the jobs of those that did not end."""
    ends = monotonic() + seconds
    sweeper.stop()
    archives.stop()
    bulk.stop()
    default_runtime().archive_threads.close()
    left = lanes.drain(max(0.0, ends - monotonic()))
    left += default_runtime().retry_queue.drain(max(0.0, ends - monotonic()))
    bulk.stop(max(0.0, ends - monotonic()))
    default_runtime().timings.flush()
    for heartbeat in heartbeats:
        heartbeat.stop()
    return left
