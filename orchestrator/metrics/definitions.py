"""Every metric: name, type, labels, meaning and source. docs/metrics.md has the same table.

The names follow Prometheus' conventions: counters end in `_total`, times are in seconds. Every
label has few values, and none of them comes from a request: see `labels.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

#: The upper bounds of histograms. Seconds.
CALL_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SWEEP_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CALLBACK_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 1800.0)
JOB_BOUNDS = (1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
FOLLOW_UP_BOUNDS = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21600.0, 86400.0)


#: The last bucket of a histogram.
INFINITY = "+Inf"


class Kind(StrEnum):
    """The type of a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Source(StrEnum):
    """The server from which a metric is read. A metric is missing while its server is away."""

    LEDGER = "ledger"
    HISTORY = "history"
    BROKER = "broker"
    #: It is always there.
    NONE = "-"


@dataclass(frozen=True)
class Definition:
    """One metric. `bounds` are the upper bounds of a histogram, seconds."""

    name: str
    source: Source
    labels: tuple[str, ...]
    meaning: str
    bounds: tuple[float, ...] = ()

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The upper bounds of the buckets of a histogram, as texts."""
        return (*map(str, self.bounds), INFINITY)

    @cached_property
    def kind(self) -> Kind:
        """The type of the metric."""
        if self.bounds:
            return Kind.HISTOGRAM
        return Kind.COUNTER if self.name.endswith("_total") else Kind.GAUGE


def _of(source: Source, name: str, labels: str, meaning: str, *bounds: float) -> Definition:
    return Definition(f"orchestrator_{name}", source, tuple(labels.split()), meaning, bounds)


UP = _of(Source.NONE, "up", "source", "1 if the figures of this source could be read")

# Figures of the ledger -------------------------------------------------------------------------

OPEN_JOBS = _of(Source.LEDGER, "open_jobs", "status", "Open jobs")
QUEUED_JOBS = _of(Source.LEDGER, "queued_jobs", "provider", "Jobs that wait for a submission")
AGENDA_DUE_JOBS = _of(Source.LEDGER, "agenda_due_jobs", "", "Open jobs that could run now")
AGENDA_LAG = _of(
    Source.LEDGER, "agenda_lag_seconds", "", "Longest time for which one of them could have run"
)
OLDEST_DUE = _of(
    Source.LEDGER,
    "agenda_oldest_due_timestamp_seconds",
    "",
    "Since when the oldest of them could run, by Redis' clock; missing when none is due",
)
LAST_SWEEP_AGE = _of(
    Source.LEDGER,
    "last_sweep_age_seconds",
    "",
    "Time since the last sweep; missing before the first",
)
UNCONFIRMED = _of(
    Source.LEDGER, "unconfirmed_attempts", "", "Attempts that may be charged without a known task"
)
WAITING_MESSAGES = _of(
    Source.LEDGER, "waiting_messages", "", "Enqueue messages that wait for a limit of their tenant"
)
FOLLOW_UPS_PENDING = _of(
    Source.LEDGER, "follow_ups_pending", "step", "Jobs with a pending follow-up"
)
FOLLOW_UP_LAG = _of(
    Source.LEDGER, "follow_up_lag_seconds", "step", "Time for which the oldest has been due"
)
AT_RISK_JOBS = _of(
    Source.LEDGER, "images_at_risk_jobs", "", "Jobs with an image that has no copy and may be lost"
)
DEAD_NOTIFICATIONS = _of(
    Source.LEDGER, "dead_notifications", "", "Notifications that were given up and are kept"
)
PAUSED_HOSTS = _of(
    Source.LEDGER, "paused_hosts", "", "Hosts of callers that are only probed, because they fail"
)
CIRCUIT = _of(
    Source.LEDGER,
    "provider_circuit",
    "provider state",
    "1 for the state that the provider's circuit breaker has",
)
IN_FLIGHT = _of(
    Source.LEDGER, "provider_in_flight", "provider", "Attempts between submission and outcome"
)
IN_FLIGHT_LIMIT = _of(
    Source.LEDGER,
    "provider_in_flight_limit",
    "provider origin",
    "Most attempts in flight: `configured`, or `found` by refusals; missing without a limit",
)
CONTRADICTIONS = _of(
    Source.LEDGER,
    "contradictions_total",
    "kind",
    "Callbacks that repeat or contradict what the ledger knows",
)
FOLLOW_UPS_ENDED = _of(
    Source.LEDGER, "follow_ups_ended_total", "step outcome", "Follow-ups that ended"
)
TENANT_OPEN_JOBS = _of(
    Source.LEDGER,
    "tenant_open_jobs",
    "tenant",
    "Open jobs by tenant, with `ORCHESTRATOR_METRICS_TENANTS=1`",
)
TENANT_JOBS_ENDED = _of(
    Source.LEDGER,
    "tenant_jobs_ended_total",
    "tenant outcome",
    "Ended jobs by tenant, with the same setting",
)

# Sums that processes keep in Redis -------------------------------------------------------------

PROVIDER_CALLS = _of(
    Source.LEDGER, "provider_calls_total", "provider call result", "Calls to providers"
)
PROVIDER_CALL_SECONDS = _of(
    Source.LEDGER,
    "provider_call_duration_seconds",
    "provider call",
    "Duration of a call to a provider",
    *CALL_BOUNDS,
)
CALLBACKS = _of(
    Source.LEDGER,
    "callbacks_total",
    "provider status",
    "Callbacks by the HTTP status of our answer",
)
REPEATED_CALLBACKS = _of(
    Source.LEDGER,
    "callbacks_repeated_total",
    "provider",
    "Callbacks with an outcome that the job already had",
)
CALLBACK_DELAY = _of(
    Source.LEDGER,
    "callback_delay_seconds",
    "provider",
    "From the arrival of a callback to its record in the ledger, the time in the spool included",
    *CALLBACK_BOUNDS,
)
SWEEP_SECONDS = _of(
    Source.LEDGER, "sweep_duration_seconds", "", "Duration of a sweep", *SWEEP_BOUNDS
)
ARCHIVE_SECONDS = _of(
    Source.LEDGER,
    "archive_duration_seconds",
    "result",
    "Duration of one try to archive the images of a job",
    *CALL_BOUNDS,
)
NOTIFY_SECONDS = _of(
    Source.LEDGER,
    "notify_duration_seconds",
    "result",
    "Duration of one try to notify a caller",
    *CALL_BOUNDS,
)
STEP_FAILURES = _of(
    Source.LEDGER,
    "step_failures_total",
    "step reason",
    "Steps that broke off: Redis was `away`, or an error in our code (`crash`)",
)

# Sums that the recorder keeps in the history ---------------------------------------------------

HISTORY_LAG = _of(
    Source.HISTORY, "history_lag_seconds", "", "Age of the oldest change that is not recorded"
)
HISTORY_STATE = _of(
    Source.HISTORY, "history_state", "state", "1 for the state that the history has"
)
JOBS_CREATED = _of(Source.HISTORY, "jobs_created_total", "provider model", "Jobs that were created")
ATTEMPTS = _of(Source.HISTORY, "attempts_total", "provider model", "Submissions to providers")
JOBS_SETTLED = _of(
    Source.HISTORY,
    "jobs_settled_total",
    "provider model outcome error_code",
    "Jobs that got their outcome; `error_code` is empty after a success",
)
OUTCOMES = _of(
    Source.HISTORY,
    "outcomes_total",
    "provider outcome settled_by",
    "The same jobs by what settled them; each series exists from the start",
)
IMAGES = _of(
    Source.HISTORY, "images_total", "provider model", "Images of outcomes, late ones included"
)
IMAGES_ARCHIVED = _of(Source.HISTORY, "images_archived_total", "provider", "Images with a copy")
COST = _of(Source.HISTORY, "cost_total", "provider unit source", "Cost of settled jobs")
COST_UNKNOWN = _of(
    Source.HISTORY,
    "cost_unknown_jobs_total",
    "provider",
    "Settled jobs that a provider accepted and whose cost is not known",
)
QUEUE_WAIT = _of(
    Source.HISTORY,
    "queue_wait_seconds",
    "provider model",
    "From the creation of a job to its first submission",
    *JOB_BOUNDS,
)
SUBMIT_TO_OUTCOME = _of(
    Source.HISTORY,
    "submit_to_outcome_seconds",
    "provider model outcome",
    "From the last submission of a job to its outcome",
    *JOB_BOUNDS,
)
END_TO_END = _of(
    Source.HISTORY,
    "end_to_end_seconds",
    "provider model outcome",
    "From the creation of a job to its outcome",
    *JOB_BOUNDS,
)
ARCHIVE_DELAY = _of(
    Source.HISTORY,
    "archive_delay_seconds",
    "provider result",
    "From the outcome of a job to the end of its archive",
    *FOLLOW_UP_BOUNDS,
)
NOTIFICATION_DELAY = _of(
    Source.HISTORY,
    "notification_delay_seconds",
    "result",
    "From the outcome of a job to the end of its notification",
    *FOLLOW_UP_BOUNDS,
)

# Figures of the broker -------------------------------------------------------------------------

BROKER_MESSAGES = _of(Source.BROKER, "broker_messages", "queue", "Messages that wait in a queue")

#: Every metric by name, in the order of this file.
DEFINITIONS: Mapping[str, Definition] = {
    each.name: each for each in list(globals().values()) if isinstance(each, Definition)
}
