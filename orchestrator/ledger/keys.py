"""Every Redis key of the ledger, in one place.

`{s}` is the shard number; the braces around `orch:{s}` are Redis Cluster's hash tag, so all keys
of one shard live in one slot and one script may touch them together. A job id carries its shard
in its last two (hexadecimal) digits. A test holds this table against the builders below.

| key | type | holds | expires |
| --- | --- | --- | --- |
| `{orch:<s>}:job:<job id>` | hash | the job, fields below | retention, once nothing follows |
| `{orch:<s>}:events:<job id>` | list | its timeline: `<ms> <name> <JSON>` | with the job |
| `{orch:<s>}:agenda` | sorted set | open job ids, scored by their next look (ms) | never |
| `{orch:<s>}:idempotency:<digest>` | string | `<job id> <fingerprint of the request>` | 24 h |
| `{orch:<s>}:upload:<job id>` | string | a file given with a job, until sent | deadline + 1 h |
| `{orch:<s>}:jobs` | sorted set | every job id, in the order of time | never |
| `{orch:<s>}:unconfirmed` | sorted set | `<job id>.<attempt>` of unknown fate, by ms | never |
| `{orch:<s>}:archive` | sorted set | jobs to archive, by their next look (ms) | never |
| `{orch:<s>}:expiring` | sorted set | the same, by the death of their first link (ms) | never |
| `{orch:<s>}:notify` | sorted set | jobs to tell of, by their next look (ms) | never |
| `{orch:<s>}:dead` | sorted set | jobs whose caller could not be told, by ms | never |
| `{orch:<s>}:counts` | hash | jobs by status; contradictions; follow-ups by their end | never |
| `{orch:<s>}:settled:<job id>` | channel | published once, when the job is settled | - |
| `{orch:0}:rejected` | stream | verified but unreadable messages, capped | never |
| `{orch:0}:hosts` | hash | hosts that fail: `<failures> <since ms> <next probe ms, or 0>` | never |
| `{orch:0}:stream:<name>` | stream | notifications, capped | retention, from the newest |
| `{orch:0}:sweep` | hash | `at` (ms) and `host` of the last finished sweep | never |
| `{orch:0}:shards` | string | the number of shards chosen at install | never |

Fields of a job: `status`, `request` (JSON), `created`, `updated`, `deadline` (ms), `attempt`
(number of the current one), `sent.<n>` (ms) and `task.<n>` (provider task id) for each attempt,
`tries`, `resubmitted` (the attempt that was given up for another one), `lease` (the holder's
token), `omitted` (events over the cap), and once terminal `images`, `error`, `cost` (JSON),
`settled` (ms), `by`, `winner` (the attempt that settled it). What follows from the outcome, each
with a status, since when it is due, its tries, the last of them and the next (ms), the last error
and the holder's token: `archive`, `archive.since`, `archive.tries`, `archive.tried`,
`archive.next`, `archive.error`, `archive.lease`; and `notify`, `notify.since`, `notify.tries`,
`notify.tried`, `notify.next`, `notify.error`, `notify.lease`.
"""

from __future__ import annotations

import hashlib
import re
import secrets

from ulid import ULID

from orchestrator.jobs.model import Step

#: Two hexadecimal digits of a job id name its shard.
MAX_SHARDS = 256
JOB_ID = re.compile(r"job_[0-9a-hjkmnp-tv-z]{26}[0-9a-f]{2}")

_ROOT = "{orch:%d}:"

REJECTED = _ROOT % 0 + "rejected"
HOSTS = _ROOT % 0 + "hosts"
SWEEP = _ROOT % 0 + "sweep"
SHARDS = _ROOT % 0 + "shards"


def new_job_id(shard: int) -> str:
    """A fresh job id in `shard`; ids sort by the time they were made."""
    return f"job_{str(ULID()).lower()}{shard:02x}"


def made_at(job_id: str) -> int:
    """When the maker of a job id made it, by its own clock. ms."""
    return ULID.from_str(job_id[4:30].upper()).milliseconds


def is_job_id(text: str) -> bool:
    """Whether `text` has the shape of a job id."""
    return JOB_ID.fullmatch(text) is not None


def shard_of(job_id: str) -> int:
    """The shard that a job id names."""
    return int(job_id[-2:], 16)


def pick_shard(shards: int, idempotency: str | None) -> int:
    """The shard for a new job: fixed by its idempotency digest, else spread at random."""
    return int(idempotency[:8], 16) % shards if idempotency else secrets.randbelow(shards)


def digest(scope: str, key: str) -> str:
    """What an idempotency key is stored as: callers' keys may hold anything, and secrets."""
    return hashlib.sha256(f"{scope}\0{key}".encode()).hexdigest()


def root(shard: int) -> str:
    """The prefix of every key in a shard."""
    return _ROOT % shard


def job(job_id: str) -> str:
    """The hash of a job."""
    return f"{root(shard_of(job_id))}job:{job_id}"


def events(job_id: str) -> str:
    """The timeline of a job."""
    return f"{root(shard_of(job_id))}events:{job_id}"


def upload(job_id: str) -> str:
    """The file that was handed over with a job."""
    return f"{root(shard_of(job_id))}upload:{job_id}"


def of(job_id: str) -> list[str]:
    """The keys that every script about one job takes: the job, its timeline, the agenda."""
    return [job(job_id), events(job_id), agenda(shard_of(job_id))]


def agenda(shard: int) -> str:
    """When each open job of a shard next needs a look."""
    return f"{root(shard)}agenda"


def jobs(shard: int) -> str:
    """Every job of a shard, in the order in which they were made."""
    return f"{root(shard)}jobs"


def unconfirmed(shard: int) -> str:
    """Attempts that may have reached their provider, whose task nobody knows."""
    return f"{root(shard)}unconfirmed"


def follow_up(shard: int, step: Step) -> str:
    """When each job of a shard next needs this follow-up, ARCHIVE or NOTIFY."""
    return f"{root(shard)}{step}"


def expiring(shard: int) -> str:
    """When the first link of each job that is not archived may be dead."""
    return f"{root(shard)}expiring"


def dead(shard: int) -> str:
    """Jobs whose caller could not be told, and since when."""
    return f"{root(shard)}dead"


def stream(name: str) -> str:
    """A stream of notifications that callers on the same Redis read."""
    return f"{root(0)}stream:{name}"


def counts(shard: int) -> str:
    """How many jobs are in each status, and how many contradictions there were."""
    return f"{root(shard)}counts"


def idempotency(shard: int, digest_: str) -> str:
    """Which job an idempotency key made."""
    return f"{root(shard)}idempotency:{digest_}"


def settled(job_id: str) -> str:
    """The channel on which a job's settlement is announced."""
    return f"{root(shard_of(job_id))}settled:{job_id}"
