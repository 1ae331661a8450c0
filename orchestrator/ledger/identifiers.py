"""Ids of jobs, batches and bulk actions, and the shard in an id."""

from __future__ import annotations

import re
import secrets

from ulid import ULID

from orchestrator.clock import DAY_MS, iso_date

#: Two hexadecimal digits of the id of a job or a batch name its shard.
MAX_SHARDS = 256
JOB_ID = re.compile(r"job_[0-9a-hjkmnp-tv-z]{26}[0-9a-f]{2}")
BATCH_ID = re.compile(r"batch_[0-9a-hjkmnp-tv-z]{26}[0-9a-f]{2}")
BULK_ID = re.compile(r"bulk_[0-9a-hjkmnp-tv-z]{26}")

#: The digits of a ULID as the digits of `int`.
_DIGITS = str.maketrans("abcdefghjkmnpqrstvwxyz", "abcdefghijklmnopqrstuv")

#: A text that sorts after every job id.
LAST_ID = "k"


def new_job_id(shard: int, now: int) -> str:
    """Return a new job id in a shard. Ids sort by the time of their creation, `now`, ms.

    Those that one process creates in one millisecond sort in the order of creation, too.
    """
    return f"job_{_ulid(now)}{shard:02x}"


def new_batch_id(shard: int, now: int) -> str:
    """Return a new batch id in a shard. `now` is in ms."""
    return f"batch_{_ulid(now)}{shard:02x}"


def new_bulk_id(now: int) -> str:
    """Return a new id of a bulk action. `now` is in ms."""
    return f"bulk_{_ulid(now)}"


def is_job_id(text: str) -> bool:
    """Return whether a text has the form of a job id."""
    return JOB_ID.fullmatch(text) is not None


def is_batch_id(text: str) -> bool:
    """Return whether a text has the form of a batch id."""
    return BATCH_ID.fullmatch(text) is not None


def is_bulk_id(text: str) -> bool:
    """Return whether a text has the form of the id of a bulk action."""
    return BULK_ID.fullmatch(text) is not None


def shard_of(job_id: str) -> int:
    """Return the shard in the id of a job or a batch."""
    return int(job_id[-2:], 16)


def pick_shard(shards: int, idempotency: str | None) -> int:
    """Return the shard of a new job: given by its idempotency digest, or random."""
    return int(idempotency[:8], 16) % shards if idempotency else secrets.randbelow(shards)


def created_at(job_id: str) -> int:
    """Return the creation time in a job id, by the clock of its creator. ms."""
    return int(job_id[4:14].translate(_DIGITS), 32)


def folder(job_id: str) -> str:
    """Return the folder of a job's files. Its date is the time in the id.

    Raises:
        ValueError: this time is outside the calendar.
    """
    return f"{iso_date(created_at(job_id) // DAY_MS)}/{job_id}"


def first_id_at(time: int) -> str:
    """Return a text that sorts before every job id of a time (ms), and after every earlier one."""
    return f"job_{_ulid(max(0, time))[:10]}"


def _ulid(now: int) -> str:
    return str(ULID.from_timestamp(now)).lower()
