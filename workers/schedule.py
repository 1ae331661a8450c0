"""What beat asks for, and when. Its times come from one clock that never jumps.

Celery's own clock is the host's. When that is set back by an hour, beat would send nothing for an
hour. When it differs from a worker's clock, an expiry time in a message would drop the message. So
no message expires here. Sweeps that waited for a worker become one: see workers/sweeper.py.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

from celery.schedules import crontab, schedule

from orchestrator.messages import ANSWER_TIMEOUT_SECONDS

#: The daily time of the prune step, UTC.
PRUNE_AT = {"hour": 3, "minute": 17}

_started_at, _started_monotonic = datetime.now(UTC), monotonic()


def steady_now() -> datetime:
    """Return the host's time at the start of this process, plus the time since then."""
    return _started_at + timedelta(seconds=monotonic() - _started_monotonic)


#: RabbitMQ must confirm a message within this time. Otherwise beat connects anew.
_OPTIONS = {"confirm_timeout": ANSWER_TIMEOUT_SECONDS}


def beat_schedule(sweep_seconds: float) -> dict[str, dict[str, Any]]:
    """Return beat's schedule, with this time between sweeps, seconds."""
    return {
        "sweep": {
            "task": "orchestrator.reconcile",
            "schedule": schedule(sweep_seconds, nowfun=steady_now),
            "options": _OPTIONS,
        },
        "prune": {
            "task": "orchestrator.prune",
            "schedule": crontab(**PRUNE_AT, nowfun=steady_now),
            "options": _OPTIONS,
        },
    }
