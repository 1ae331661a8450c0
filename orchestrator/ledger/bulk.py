"""Bulk actions: what was previewed, the jobs, and how far the workers are.

The jobs of an action are stored in parts. A worker claims a part, acts on its jobs, and records the
result. A worker that dies leaves the part to another one, so each job must be acted on in a way
that can be repeated.

Fields of a bulk action: `action`, `tenant` (* all), `filters` (JSON), `jobs` (the ids that were
named in the place of filters), `figures` (JSON: what the preview shows), `total` and `applies`
(jobs), `actor`, `risk` (1: jobs that may have been charged are retried, too), `created`, `started`,
`finished` (ms), `stopped` (who stopped it), `parts` (their number), `part` (the next one), `done`
(jobs), `refused <reason>` (jobs), `waits` (what it waits for), `lease` (the token of the holder),
`claimed` (ms: when the part was claimed first). Each part begins its lifetime anew.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson
from redis import Redis

from orchestrator.ledger import codec, identifiers, keys
from orchestrator.ledger.audit import MAX_ENTRIES
from orchestrator.ledger.installation import from_master
from orchestrator.ledger.script import load

#: The jobs of a part.
PART_JOBS = 50
#: The parts that are stored in one call.
CALL_PARTS = 100
#: How long a preview is kept. ms.
PREVIEW_MS = 3_600_000
#: How long a started action is kept after its last progress. ms.
KEPT_MS = 7 * 86_400_000
#: The most previews that a tenant keeps. An older one is deleted.
MAX_PREVIEWS = 10
#: The most started actions that a tenant may have at once.
MAX_STARTED = 20
#: The most started actions that are listed.
MAX_LISTED = 1000
#: The start of the field that counts the refused jobs of a reason.
_REFUSED = "refused "


class BulkKind(StrEnum):
    """What a bulk action does with each job."""

    CANCEL = "cancel"
    RETRY = "retry"
    NOTIFY = "notify"


class BulkState(StrEnum):
    """How far a bulk action is."""

    PREVIEWED = "previewed"
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"


class BulkResult(StrEnum):
    """The result of a call. A test compares these values with the scripts."""

    SAVED = "saved"
    STARTED = "started"
    REPLAYED = "replayed"
    MISSING = "missing"
    LIMITED = "limited"
    CLAIMED = "claimed"
    NOT_DUE = "not_due"
    RECORDED = "recorded"
    FINISHED = "finished"
    STALE = "stale"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class BulkAction:
    """A bulk action. Times are ms.

    Attributes:
        tenant: whose jobs it acts on; None: those of all tenants.
        filters: of the search that found the jobs.
        figures: what the preview shows.
        total: the number of jobs that were found.
        applies: the number of jobs that are acted on. The others were refused by the preview.
        accept_risk: also retry jobs that may have been charged.
        actor: who started it, or asked for the preview.
        refused: the number of refused jobs by reason.
        waits_for: why it does not go on now.
        stopped_by: who stopped it.
        named: the jobs that the caller named. Then the filters have nothing but the tenant.
    """

    id: str
    kind: BulkKind
    tenant: str | None
    filters: Mapping[str, Any]
    figures: Mapping[str, Any]
    total: int
    applies: int
    actor: str
    created_at: int
    accept_risk: bool = False
    started_at: int | None = None
    finished_at: int | None = None
    done: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    waits_for: str | None = None
    stopped_by: str | None = None
    named: tuple[str, ...] = ()

    @property
    def state(self) -> BulkState:
        """How far it is."""
        if self.stopped_by is not None:
            return BulkState.STOPPED
        if self.finished_at is not None:
            return BulkState.DONE
        return BulkState.PREVIEWED if self.started_at is None else BulkState.RUNNING


@dataclass(frozen=True, slots=True)
class BulkPart:
    """The right to act on some jobs of an action.

    Attributes:
        job_ids: the jobs.
        token: of the lease.
        since: when a worker claimed these jobs first, ms. It may have acted on some of them.
    """

    action: BulkAction
    job_ids: tuple[str, ...]
    token: str
    since: int


class BulkActions:
    """The bulk actions of an installation. The caller gives all times, in ms since the epoch.

    Args:
        client: returns the client of this thread.
    """

    def __init__(self, client: Callable[[], AbstractContextManager[Redis]]) -> None:
        self._redis = client
        self._save = load("bulk_save")
        self._start = load("bulk_start")
        self._claim = load("bulk_claim")
        self._advance = load("bulk_advance")
        self._stop = load("bulk_stop")

    def save(self, action: BulkAction, job_ids: Sequence[str]) -> BulkResult:
        """Keep an action that was previewed, with the jobs to act on. Return SAVED."""
        firsts = range(0, len(job_ids), PART_JOBS)
        parts = [" ".join(job_ids[first : first + PART_JOBS]) for first in firsts]
        fields = [*_fields(action), "part", "0", "parts", str(len(parts))]
        args: list[str | int] = [action.id, action.created_at, orjson.dumps(fields).decode()]
        limits = [PREVIEW_MS, KEPT_MS, MAX_PREVIEWS]
        with self._redis() as client:
            stored = keys.bulk_parts(action.id)
            for first in range(0, len(parts), CALL_PARTS):
                some = enumerate(parts[first : first + CALL_PARTS], first)
                with client.pipeline(transaction=True) as pipe:
                    pipe.hset(stored, mapping={str(number): part for number, part in some})
                    pipe.pexpire(stored, PREVIEW_MS)
                    pipe.execute()
            answer = self._save.run(client, _keys(action), [*args, *limits])
        return BulkResult(answer[0])

    def start(self, action: BulkAction, *, actor: str, accept_risk: bool, now: int) -> BulkResult:
        """Start an action that was saved.

        Returns:
            STARTED, REPLAYED (it was started before), MISSING (it has expired) or LIMITED.
        """
        args: list[str | int] = [
            action.id,
            now,
            actor,
            "1" if accept_risk else "",
            KEPT_MS,
            MAX_STARTED,
        ]
        with self._redis() as client:
            places = [*_keys(action), keys.BULK_STARTED, keys.AUDIT, keys.BULK_LIST]
            limits = [MAX_ENTRIES, MAX_LISTED]
            return BulkResult(self._start.run(client, places, [*args, *limits])[0])

    def stop(self, action: BulkAction, *, actor: str, now: int) -> BulkResult:
        """Stop an action. What was done stays done. A worker ends with the job it is at, or later.

        Returns:
            STOPPED, REPLAYED (it has ended) or MISSING (it has expired, or was not started).
        """
        args: list[str | int] = [action.id, now, actor, MAX_ENTRIES]
        with self._redis() as client:
            places = [*_keys(action), keys.BULK_STARTED, keys.AUDIT]
            return BulkResult(self._stop.run(client, places, args)[0])

    def newest(self, limit: int, *, tenant: str | None = None) -> list[BulkAction]:
        """Return the newest actions that were started, newest first.

        Args:
            limit: the most actions.
            tenant: whose jobs they act on; None: all actions.
        """
        with self._redis() as client:
            listed: Any = client.zrange(keys.BULK_LIST, 0, -1, desc=True)
            with client.pipeline(transaction=False) as pipe:
                for bulk_id in listed:
                    pipe.hgetall(keys.bulk(bulk_id))
                stored: Any = pipe.execute()
        known = [_action(i, fields) for i, fields in zip(listed, stored, strict=True) if fields]
        return [each for each in known if tenant in (None, each.tenant)][:limit]

    def get(self, bulk_id: str) -> BulkAction | None:
        """Return an action, or None. Text of another form than an id is not sent to Redis."""
        if not identifiers.is_bulk_id(bulk_id):
            return None
        fields = from_master(self._redis, lambda client: client.hgetall(keys.bulk(bulk_id)))
        return _action(bulk_id, fields) if fields.get("action") else None

    def claim(self, *, now: int, lease_ms: int) -> BulkPart | None:
        """Take the next part of the action that has waited longest. None: none is due."""
        token = secrets.token_urlsafe(9)
        with self._redis() as client:
            answer: Any = self._claim.run(client, [keys.BULK_STARTED], [now, token, now + lease_ms])
        if BulkResult(answer[0]) is not BulkResult.CLAIMED:
            return None
        _, bulk_id, flat, jobs = answer
        fields = codec.pairs(flat)
        return BulkPart(
            _action(bulk_id, fields), tuple(jobs.split()), token, int(fields["claimed"])
        )

    def advance(
        self,
        part: BulkPart,
        *,
        done: int,
        refused: Mapping[str, int],
        left: Sequence[str] = (),
        now: int,
        due_at: int,
        waits_for: str = "",
    ) -> BulkResult:
        """Record what was done with the jobs of a part.

        Args:
            part: from `claim`.
            done: the number of jobs that were acted on.
            refused: the number of other jobs, by reason.
            left: jobs that are left, because the worker stops or must wait.
            now: ms.
            due_at: when the action goes on, ms.
            waits_for: why it does not go on before.

        Returns:
            RECORDED, FINISHED or STALE (nothing was recorded).
        """
        action, reasons = part.action, [each for pair in refused.items() for each in pair]
        args: list[str | int] = [action.id, now, part.token, " ".join(left), done]
        rest: list[str | int] = [orjson.dumps(reasons).decode(), due_at, waits_for, KEPT_MS]
        with self._redis() as client:
            places = [*_keys(action), keys.BULK_STARTED]
            return BulkResult(self._advance.run(client, places, [*args, *rest])[0])


def _keys(action: BulkAction) -> list[str]:
    """Return the keys of an action, of its parts, and of the actions of its tenant."""
    return [keys.bulk(action.id), keys.bulk_parts(action.id), keys.bulk_of(action.tenant)]


def _fields(action: BulkAction) -> list[str]:
    """Return the fields of a new action: name, value, ..."""
    stored = {
        "action": action.kind,
        "tenant": action.tenant or keys.ALL_TENANTS,
        "filters": orjson.dumps(dict(action.filters)).decode(),
        "figures": orjson.dumps(dict(action.figures)).decode(),
        "total": str(action.total),
        "applies": str(action.applies),
        "actor": action.actor,
        "created": str(action.created_at),
        "risk": "1" if action.accept_risk else "",
        **({"jobs": " ".join(action.named)} if action.named else {}),
        **{f"{_REFUSED}{reason}": str(number) for reason, number in action.refused.items()},
    }
    return [text for pair in stored.items() for text in pair]


def _action(bulk_id: str, fields: Mapping[str, str]) -> BulkAction:
    started, finished = fields.get("started"), fields.get("finished")
    tenant = fields["tenant"]
    return BulkAction(
        bulk_id,
        BulkKind(fields["action"]),
        None if tenant == keys.ALL_TENANTS else tenant,
        orjson.loads(fields["filters"]),
        orjson.loads(fields["figures"]),
        total=int(fields["total"]),
        applies=int(fields["applies"]),
        actor=fields["actor"],
        created_at=int(fields["created"]),
        accept_risk=fields["risk"] == "1",
        started_at=int(started) if started else None,
        finished_at=int(finished) if finished else None,
        done=int(fields.get("done", 0)),
        refused={
            name.removeprefix(_REFUSED): int(number)
            for name, number in fields.items()
            if name.startswith(_REFUSED)
        },
        waits_for=fields.get("waits") or None,
        stopped_by=fields.get("stopped"),
        named=tuple(fields.get("jobs", "").split()),
    )
