"""All Redis keys of the ledger.

`<s>` is the number of the shard. The braces are the hash tag of Redis Cluster: all keys of a shard
are in one slot, so one script can use them together. identifiers.py says how an id names its shard.
A test compares this table with a live server.

| key | type | holds | expires |
| --- | --- | --- | --- |
| `{orch:<s>}:job:<job id>` | hash | the job, fields below | retention, after the last follow-up |
| `{orch:<s>}:events:<job id>` | list | its timeline: see timeline.py | with the job |
| `{orch:<s>}:agenda` | sorted set | open job ids, scored by when they are due (ms) | never |
| `{orch:<s>}:idempotency:<digest>` | string | `<job or batch id> <fingerprint of request>` | 24 h |
| `{orch:<s>}:repeat:<digest>` | hash | the newest job of a request: see repeats.py | 24 h |
| `{orch:<s>}:batch:<batch id>` | hash | a batch: see batches.py | retention, after its completion |
| `{orch:<s>}:batch_answer:<batch id>` | string | what the request of a batch was answered | 24 h |
| `{orch:<s>}:batch` | sorted set | batches that are not done, by when they are due (ms) | never |
| `{orch:<s>}:open_batches` | hash | the number of open jobs of each batch with one | never |
| `{orch:<s>}:task:<provider>:<task id>` | string | the job of a provider task | 30 days |
| `{orch:<s>}:flow:<flow>` | sorted set | open jobs of a flow, by when they are due (ms) | never |
| `{orch:<s>}:flows` | sorted set | flows, by when their first job may be due (ms) | never |
| `{orch:<s>}:deadlines` | sorted set | jobs without a task, by when they are checked (ms) | never |
| `{orch:<s>}:movable:<provider>` | sorted set | jobs with a fallback, by half-time (ms) | never |
| `{orch:<s>}:turns:<provider>` | sorted set | tenants with queued jobs, by their turns | never |
| `{orch:<s>}:in_flight:<provider>` | sorted set | `<job id>.<attempt>` in flight, by ms | never |
| `{orch:<s>}:provider:<provider>` | hash | the state of a provider, fields below | never |
| `{orch:<s>}:durations:<provider>` | hash | times of the latest results, see below | never |
| `{orch:<s>}:upload:<job id>` | string | the file of a job, until it is sent | deadline + 1 h |
| `{orch:<s>}:jobs` | sorted set | every job id, in the order of creation | never |
| `{orch:<s>}:jobs:<tenant>` | sorted set | the same, of one tenant | never |
| `{orch:<s>}:unconfirmed` | sorted set | unconfirmed `<job id>.<attempt>`, by ms | never |
| `{orch:<s>}:flow:<step>:<tenant>` | sorted set | pending follow-ups, by when due (ms) | never |
| `{orch:<s>}:flows:<step>` | sorted set | their tenants, by when one may be due (ms) | never |
| `{orch:<s>}:expiring:<tenant>` | sorted set | pending archives, by link expiry (ms) | never |
| `{orch:<s>}:given_up` | sorted set | jobs with a dead archive, by the same time | never |
| `{orch:<s>}:dead` | sorted set | failed notifications, by ms | never |
| `{orch:<s>}:spend:<tenant>:<day>` | hash | possible costs by `<provider> <unit>` | 10 days |
| `{orch:<s>}:counts` | hash | jobs by status, of each tenant too, fields below | never |
| `{orch:<s>}:changes` | stream | `job`: the id of a changed job, capped | never |
| `{orch:<s>}:recorder` | string | the recorder that writes the history of this shard | 2 s |
| `{orch:<s>}:settled:<job id>` | channel | when the job is settled, and when it is archived | - |
| `{orch:<s>}:settled:<batch id>` | channel | one message when the batch is completed | - |
| `orch:task:<provider>:<task id>` | string | the same, over all shards | 30 days |
| `{orch:0}:rejected` | stream | verified but unreadable messages, capped | never |
| `{orch:0}:hosts` | hash | failing hosts: `<failures> <since ms> <next probe ms, or 0>` | never |
| `{orch:0}:stream:<name>` | stream | notifications, capped | retention, from the newest |
| `{orch:0}:sweep` | hash | `at` (ms) and `host` of the last finished sweep | never |
| `{orch:0}:processes` | hash | running processes: see processes.py | never |
| `{orch:0}:timings` | hash | sums for `/metrics`, by series: see orchestrator/metrics | never |
| `{orch:0}:write_check` | string | the last write of a check; nobody reads it | 1 minute |
| `{orch:0}:answered:<token>` | string | a process got the message of a check | 1 minute |
| `{orch:0}:echo:<token>` | channel | one message of a check | - |
| `{orch:0}:examination` | string | the last examination of the deployment: JSON | 1 minute |
| `{orch:0}:api_keys` | hash | keys by id: JSON; `<id> expires`, `<id> revoked` (ms) | never |
| `{orch:0}:tenant_settings` | hash | settings of tenants: `<tenant> <setting>` | never |
| `{orch:0}:access` | string | the number of changes of keys and settings | never |
| `{orch:0}:audit` | stream | who changed what, capped | never |
| `{orch:0}:bulk:<bulk id>` | hash | a bulk action: see bulk.py | 1 h, started 7 days |
| `{orch:0}:bulk_parts:<bulk id>` | hash | its jobs: up to 50 ids by number | 1 h, started 7 days |
| `{orch:0}:bulk_of:<tenant or *>` | sorted set | its previews and running actions, by ms | 7 days |
| `{orch:0}:bulk_list` | sorted set | bulk actions that were started, by ms, capped | never |
| `{orch:0}:bulk_started` | sorted set | running bulk actions, by when they are due (ms) | never |
| `{orch:0}:sign_in:<digest>` | hash | a session, or an address with failed sign-ins | 12 h |
| `{orch:0}:sign_ins:<digest>` | list | the newest sessions of a key or a link | 12 h |
| `{orch:0}:waiting` | sorted set | flows of enqueue messages, by when they are tried (ms) | never |
| `{orch:0}:waiting:<tenant> <provider>` | sorted set | the messages of one: JSON, by ms | never |
| `{orch:0}:shards` | string | the number of shards of the installation | never |
| `{orch:0}:format` | string | the newest format of its jobs: see installation.py | never |

Fields of a job: `status`, `request` (JSON), `provider`, `tenant`, `created`, `updated`, `deadline`
(ms), `attempt` (the number of the current attempt), `sent.<n>` (ms) and `task.<n>` (provider task
id) for each attempt, `tries`, `seen_running` (ms: the last poll that saw the task run),
`resubmitted` (the attempt that was submitted again), `lease` (the token of the holder),
`poll_asked` (ms, the last request for a poll), `omitted` (events over the limit), `pending_failure`
(JSON: a failure that needs more evidence), `refusal` (JSON: why its provider took no attempt),
`reserved` and `charged` (the part of a budget), `trace` (its W3C context). A job with fallbacks has
`fallback` (JSON: the ones that are left). After a move it has `moves` (JSON), `provider.<n>` (of
each attempt before the move), and `reserved:<provider>` and `charged:<provider>` (of a provider
that it left). A terminal job also has `images`, `error`, `cost` (JSON), `settled` (ms), `by`,
`winner` (the attempt that settled it). A late result adds `late_images` (JSON), `late.<n>` (ms, its
attempt) and `late.notify` (owed or due). Each follow-up has a status, its start, its tries, the
last and the next try (ms), the last error and the token of the holder: `archive`, `archive.since`,
`archive.tries`, `archive.tried`, `archive.next`, `archive.error`, `archive.lease`; `notify`,
`notify.since`, `notify.tries`, `notify.tried`, `notify.next`, `notify.error`, `notify.lease`; and
`confirm`, `confirm.since`, `confirm.tries`, `confirm.tried`, `confirm.next`, `confirm.error`,
`confirm.lease`, with `confirm.attempts` (their numbers). A follow-up without a start began when the
job was settled. `format` (of its fields and its timeline; 1 if it is absent). `handed` (the token
of a claim of this job, and the job that it took, because its tenant had the turn; or the word
moved). `key` (a digest of the idempotency key, for searches). `batch` (the id of its batch).
`retry_of` (the id of the job that it retries). `retried_as` (the id of its newest retry).

A flow is `<kind>:<provider>:<tenant>`. The kind is queued, resend (submitting or unconfirmed) or
poll (running).

The counts have the number of jobs by status, of contradicting events, and of ended follow-ups
(`notify_done`). `running:<provider>` is the number of tasks that run there. `<tenant> open` and
`<tenant> <status>` are the open and the ended jobs of a tenant. `<tenant> rate` (ms) is the time
when it may have a whole burst of jobs again.

Fields of a provider: `paused` (JSON: by whom and when), `failures`, `failing_since` (ms),
`open_until` (ms: the circuit breaker is open until then), `probe_until` (ms: a job probes),
`prober` (its id), `openings` (in a row), `reason` (error JSON), `polls_paused_until` (ms),
`polls_reason` (JSON), `tat` (ms: when the next submission is due at the configured rate), `slot`
(ms: the last time that a waiting job was given), `found` (the most tasks that it took), `raise`
(what is added to it next), `raised_at` (ms), `raise_after` (ms), `tried` (a raise that was not
refused yet), `proved` (the most tasks that ran lately), `proved_at` (ms),
`full` (jobs wait for a place), `waited_until` (ms: when its jobs had to wait last).

Fields of durations: `all` (of all jobs of the provider) and `model <name>` (of at most 100 models):
the time of the last result (ms), and up to 20 durations from the submission to the result (ms).
"""

from __future__ import annotations

import hashlib

from orchestrator.jobs.model import Step
from orchestrator.jobs.tenant import DEFAULT_TENANT
from orchestrator.ledger.identifiers import shard_of

#: Stands for the name of a tenant: all of them. It is not a tenant's name.
ALL_TENANTS = "*"

_ROOT = "{orch:%d}:"

REJECTED = _ROOT % 0 + "rejected"
HOSTS = _ROOT % 0 + "hosts"
SWEEP = _ROOT % 0 + "sweep"
SHARDS = _ROOT % 0 + "shards"
FORMAT = _ROOT % 0 + "format"
WRITE_CHECK = _ROOT % 0 + "write_check"
EXAMINATION = _ROOT % 0 + "examination"
API_KEYS = _ROOT % 0 + "api_keys"
TENANT_SETTINGS = _ROOT % 0 + "tenant_settings"
ACCESS = _ROOT % 0 + "access"
AUDIT = _ROOT % 0 + "audit"
BULK_LIST = _ROOT % 0 + "bulk_list"
BULK_STARTED = _ROOT % 0 + "bulk_started"
WAITING = _ROOT % 0 + "waiting"
PROCESSES = _ROOT % 0 + "processes"
TIMINGS = _ROOT % 0 + "timings"


def digest(scope: str, key: str) -> str:
    """Return the stored form of an idempotency key. A key may contain anything, also secrets."""
    return hashlib.sha256(f"{scope}\0{key}".encode()).hexdigest()


def searchable(key: str) -> str:
    """Return the stored form of an idempotency key, of any scope and tenant, for searches."""
    return digest("search", key)[:32]


def root(shard: int) -> str:
    """Return the prefix of every key in a shard."""
    return _ROOT % shard


def job(job_id: str) -> str:
    """Return the key of a job's hash."""
    return f"{root(shard_of(job_id))}job:{job_id}"


def events(job_id: str) -> str:
    """Return the key of a job's timeline."""
    return f"{root(shard_of(job_id))}events:{job_id}"


def flow(shard: int, kind: str, provider: str, tenant: str) -> str:
    """Return the key of a flow. The kind is queued, resend or poll."""
    return f"{root(shard)}flow:{kind}:{provider}:{tenant}"


def flows(shard: int) -> str:
    """Return the key of the index of flows."""
    return f"{root(shard)}flows"


def deadlines(shard: int) -> str:
    """Return the key of the queued jobs, scored by their deadline."""
    return f"{root(shard)}deadlines"


def movable(shard: int, provider: str) -> str:
    """Return the key of the queued jobs at a provider that have a fallback."""
    return f"{root(shard)}movable:{provider}"


def turns(shard: int, provider: str) -> str:
    """Return the key of the turns of the tenants at a provider."""
    return f"{root(shard)}turns:{provider}"


def in_flight(shard: int, provider: str) -> str:
    """Return the key of the attempts in flight at a provider."""
    return f"{root(shard)}in_flight:{provider}"


def provider(shard: int, name: str) -> str:
    """Return the key of the state of a provider."""
    return f"{root(shard)}provider:{name}"


def durations(shard: int, provider: str) -> str:
    """Return the key of the durations of a provider's tasks."""
    return f"{root(shard)}durations:{provider}"


def task(job_id: str, provider: str, task_id: str) -> str:
    """Return the key of the owner of a provider task, in the shard of a job."""
    return f"{root(shard_of(job_id))}task:{provider}:{task_id}"


def task_owner(provider: str, task_id: str) -> str:
    """Return the key of the owner of a provider task, in any shard. It has a slot of its own."""
    return f"orch:task:{provider}:{task_id}"


def upload(job_id: str) -> str:
    """Return the key of a job's file."""
    return f"{root(shard_of(job_id))}upload:{job_id}"


def of(job_id: str) -> list[str]:
    """Return the keys of every script for one job: the job, its timeline, the agenda."""
    return [job(job_id), events(job_id), agenda(shard_of(job_id))]


def agenda(shard: int) -> str:
    """Return the key of the open jobs of a shard, scored by when they are due."""
    return f"{root(shard)}agenda"


def jobs(shard: int) -> str:
    """Return the key of the index of a shard's jobs."""
    return f"{root(shard)}jobs"


def tenant_jobs(shard: int, tenant: str) -> str:
    """Return the key of the index of a tenant's jobs in a shard."""
    return f"{root(shard)}jobs:{tenant}"


def spend(shard: int, tenant: str, day: int) -> str:
    """Return the key of a tenant's possible costs of a day: days since 1970, UTC."""
    return f"{root(shard)}spend:{tenant}:{day}"


def unconfirmed(shard: int) -> str:
    """Return the key of the unconfirmed attempts of a shard."""
    return f"{root(shard)}unconfirmed"


def follow_up(shard: int, step: Step, tenant: str = DEFAULT_TENANT) -> str:
    """Return the key of the pending follow-ups of a tenant: ARCHIVE, NOTIFY or CONFIRM."""
    return f"{root(shard)}flow:{step}:{tenant}"


def followed(shard: int, step: Step) -> str:
    """Return the key of the tenants with a pending follow-up."""
    return f"{root(shard)}flows:{step}"


def batches(shard: int) -> str:
    """Return the key of the batches of a shard that are not done."""
    return f"{root(shard)}batch"


def expiring(shard: int, tenant: str = DEFAULT_TENANT) -> str:
    """Return the key of a tenant's jobs that are not archived, scored by when a link expires."""
    return f"{root(shard)}expiring:{tenant}"


def old_follow_up(shard: int, step: Step) -> str:
    """Return the key of the pending follow-ups of a version without flows of tenants."""
    return f"{root(shard)}{step}"


def old_expiring(shard: int) -> str:
    """Return the key of the archives of such a version, scored by when a link expires."""
    return f"{root(shard)}expiring"


def given_up(shard: int) -> str:
    """Return the key of the jobs with a dead archive, until a link expires."""
    return f"{root(shard)}given_up"


def dead(shard: int) -> str:
    """Return the key of the failed notifications of a shard."""
    return f"{root(shard)}dead"


def stream(name: str) -> str:
    """Return the key of a stream of notifications."""
    return f"{root(0)}stream:{name}"


def waiting(flow: str) -> str:
    """Return the key of the waiting enqueue messages of a flow: `<tenant> <provider>`."""
    return f"{WAITING}:{flow}"


def bulk(bulk_id: str) -> str:
    """Return the key of a bulk action."""
    return f"{root(0)}bulk:{bulk_id}"


def bulk_parts(bulk_id: str) -> str:
    """Return the key of the jobs of a bulk action."""
    return f"{root(0)}bulk_parts:{bulk_id}"


def bulk_of(tenant: str | None) -> str:
    """Return the key of the previews and running bulk actions of a tenant; None: of all tenants."""
    return f"{root(0)}bulk_of:{tenant or ALL_TENANTS}"


def counts(shard: int) -> str:
    """Return the key of the counts of a shard."""
    return f"{root(shard)}counts"


def changes(shard: int) -> str:
    """Return the key of the stream of changed jobs."""
    return f"{root(shard)}changes"


def recorder(shard: int) -> str:
    """Return the key of the lease of the recorder that writes the history of a shard."""
    return f"{root(shard)}recorder"


def idempotency(shard: int, digest_: str) -> str:
    """Return the key of an idempotency digest."""
    return f"{root(shard)}idempotency:{digest_}"


def repeat(shard: int, digest_: str) -> str:
    """Return the key of the newest job of a request."""
    return f"{root(shard)}repeat:{digest_}"


def batch(shard: int, batch_id: str) -> str:
    """Return the key of the part of a batch in a shard."""
    return f"{root(shard)}batch:{batch_id}"


def batch_answer(batch_id: str) -> str:
    """Return the key of the answer to the request of a batch."""
    return f"{root(shard_of(batch_id))}batch_answer:{batch_id}"


def open_batches(shard: int) -> str:
    """Return the key of the numbers of open jobs of batches."""
    return f"{root(shard)}open_batches"


def settled(job_id: str) -> str:
    """Return the channel of a job's settlement, or of a batch's completion."""
    return f"{root(shard_of(job_id))}settled:{job_id}"


def echo_channel(token: str) -> str:
    """Return the channel of a check."""
    return f"{root(0)}echo:{token}"


def answered(token: str) -> str:
    """Return the key that says that a process got the message of a check."""
    return f"{root(0)}answered:{token}"


def sign_in(digest: str) -> str:
    """Return the key of a session of the dashboard, or of an address with failed sign-ins."""
    return f"{root(0)}sign_in:{digest}"


def sign_ins(digest: str) -> str:
    """Return the key of the list of the newest sessions of a key or a link."""
    return f"{root(0)}sign_ins:{digest}"
