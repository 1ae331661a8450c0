"""The values of labels. Each label has few values, whatever a request or a provider says."""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from http import HTTPStatus

from orchestrator.jobs.model import FollowUpStatus
from orchestrator.ledger.totals import ENDS
from orchestrator.net.http_types import Reply
from orchestrator.providers import PROVIDERS
from orchestrator.providers.client import NoAnswer, NotSent

#: The value for everything that is not known here.
OTHER = "other"
#: The longest unit, such as USD or credits. Characters.
MAX_UNIT_CHARACTERS = 20


class CallKind(StrEnum):
    """What a call to a provider is for."""

    SUBMIT = "submit"
    QUERY = "query"


class CallResult(StrEnum):
    """The result of a call to a provider, by the HTTP status."""

    OK = "ok"
    RATE_LIMITED = "rate_limited"
    CLIENT_ERROR = "client_error"
    SERVER_ERROR = "server_error"
    #: No connection was made.
    NOT_SENT = "not_sent"
    #: The request may have arrived.
    NO_ANSWER = "no_answer"


class StepFailure(StrEnum):
    """Why a step broke off."""

    AWAY = "away"
    CRASH = "crash"


#: The HTTP statuses of the receiver of callbacks.
CALLBACK_STATUSES = ("200", "400", "401", "404", "409", "413", "503")
#: The result of a try to archive or to notify that ended nothing: another follows.
AGAIN = "again"
#: The same, because our own storage failed.
STORAGE_FAILED = "storage_failed"
ARCHIVE_RESULTS = (FollowUpStatus.DONE.value, FollowUpStatus.DEAD.value, AGAIN, STORAGE_FAILED)
NOTIFY_RESULTS = (*(each.value for each in ENDS), AGAIN)


def call_result(answer: Reply | NotSent | NoAnswer) -> CallResult:
    """Return the result of a call to a provider."""
    if isinstance(answer, NotSent):
        return CallResult.NOT_SENT
    if isinstance(answer, NoAnswer):
        return CallResult.NO_ANSWER
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        return CallResult.RATE_LIMITED
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return CallResult.SERVER_ERROR
    ok = HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES
    return CallResult.OK if ok else CallResult.CLIENT_ERROR


def callback_status(status: int) -> str:
    """Return the HTTP status of an answer to a callback, or `other`."""
    return str(status) if str(status) in CALLBACK_STATUSES else OTHER


def provider_label(name: str) -> str:
    """Return the name of a known provider, otherwise `other`."""
    return name if name in PROVIDERS else OTHER


def model_label(provider: str, model: str) -> str:
    """Return the family of a provider's model, the model if it has none, or `other`."""
    return _models(provider).get(model, OTHER)


def unit_label(unit: str | None) -> str:
    """Return a unit of costs. It comes from the settings or from an adapter."""
    return unit if unit and len(unit) <= MAX_UNIT_CHARACTERS and unit.isprintable() else OTHER


@cache
def _models(provider: str) -> dict[str, str]:
    """Return the label of each listed model and family of a provider."""
    known = PROVIDERS.get(provider)
    if known is None:
        return {}
    labels = {name: name for name in known.models}
    for family, choice in reversed([*known.families.items()]):
        labels |= dict.fromkeys((choice.default, *choice.tiers.values()), family)
    return labels | {family: family for family in known.families}
