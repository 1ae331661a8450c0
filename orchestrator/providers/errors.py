"""The errors in providers' answers. The provider's code and words decide before the HTTP status."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from itertools import chain, islice
from typing import Any

from orchestrator.jobs.model import ErrorCode, JobError, Status
from orchestrator.jsonio import NotJson, parse_embedded, parse_lenient
from orchestrator.net.http_types import Reply
from orchestrator.providers.envelopes import plain_name, plain_names
from orchestrator.providers.states import terminal_status

#: A provider's code -> our code, and whether the error may pass.
Codes = Mapping[str, tuple[ErrorCode, bool]]

#: The longest stored error message and error code. Characters.
_MAX_MESSAGE_CHARACTERS = 1000
_MAX_CODE_CHARACTERS = 100

#: HTTP status -> error code, and whether the error may pass. For answers without a better reason.
STATUS_ERRORS: Mapping[int, tuple[ErrorCode, bool]] = {
    400: (ErrorCode.INVALID_REQUEST, False),
    401: (ErrorCode.AUTHENTICATION, False),
    402: (ErrorCode.INSUFFICIENT_CREDITS, False),
    403: (ErrorCode.PERMISSION, False),
    404: (ErrorCode.NOT_FOUND, False),
    408: (ErrorCode.TIMEOUT, True),
    409: (ErrorCode.TASK_LIMIT, True),
    413: (ErrorCode.TOO_LARGE, False),
    422: (ErrorCode.INVALID_REQUEST, False),
    429: (ErrorCode.RATE_LIMITED, True),
}
#: Statuses that mean the same as the code of a failed task.
_TASK_STATUSES = (402, 429)

#: Our codes of documented codes that the words may refine: they have many reasons.
_GENERAL = frozenset(
    {
        ErrorCode.INVALID_REQUEST,
        ErrorCode.PERMISSION,
        ErrorCode.GENERATION_FAILED,
        ErrorCode.PROVIDER_UNAVAILABLE,
        ErrorCode.UNKNOWN,
    }
)
_MONEY = r"(credits?|balance|quota|funds?)"
#: The usual words of providers -> our code, and whether the error may pass. The first match counts.
_WORDS: tuple[tuple[re.Pattern[str], tuple[ErrorCode, bool]], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), meaning)
    for pattern, meaning in (
        (
            r"((\b|_)insufficient|(\bnot|n't) (have )?(enough|sufficient)|\b(no|out of|low on))"
            rf"[\s_-]*((account|user|your|any|remaining)[\s_-]+)?{_MONEY}(\b|_)"
            rf"|\b{_MONEY}[\s_-]+((is|are|has|have)[\s_-]+)?(been[\s_-]+)?"
            r"(insufficient|not[\s_-]+enough|too[\s_-]+low|used[\s_-]+up|exhausted|depleted)"
            rf"|\bexhausted[\s_-]+((account|user|your)[\s_-]+)?{_MONEY}"
            r"|exceeded your current quota|payment[\s_-]*required|\barrear"
            r"|billing[\s_-]*(hard[\s_-]*)?limit|please (recharge|top[\s_-]*up)|top[\s_-]*up your"
            rf"|(buy|purchase) (more )?{_MONEY}|余额不足|额度不足|积分不足|欠费",
            (ErrorCode.INSUFFICIENT_CREDITS, False),
        ),
        (
            r"content[\s_-]*(policy|policies|moderation|filter|violation|safety)"
            r"|policy[\s_-]*violation|violat\w+\b.{0,40}\b(policy|policies|guidelines|terms|rules)"
            r"|safety[\s_-]*(system|filter|polic|check|setting|guideline|reason)|\bnsfw\b"
            r"|(blocked|rejected|flagged|refused)\b.{0,40}\b(moderation|safety)"
            r"|moderation[\s_-]*(block|reject|flag|violation)|sensitive[\s_-]*(content|words?)"
            r"|(prohibited|inappropriate|unsafe)[\s_-]*content|敏感|违规",
            (ErrorCode.CONTENT_POLICY, False),
        ),
        (
            r"(active|concurrent|running)[\s_-]*(task|job|request)s?[\s_-]*(limit|exceeded)"
            r"|too many (active|concurrent|running)|concurrency[\s_-]*limit|task[\s_-]*limit",
            (ErrorCode.TASK_LIMIT, True),
        ),
        (
            r"rate[\s_-]*limit|too[\s_-]*many[\s_-]*requests|too[\s_-]*frequent|throttl"
            r"|requests per (second|minute|hour)|请求过于频繁|限流",
            (ErrorCode.RATE_LIMITED, True),
        ),
        (
            r"(invalid|incorrect|expired|unknown|wrong)[\s_-]+(or expired[\s_-]+)?"
            r"(api[\s_-]*key|access[\s_-]*token|token)\b|unauthori[sz]ed|authentication[\s_-]fail",
            (ErrorCode.AUTHENTICATION, False),
        ),
    )
)
#: The longest text in which these words are searched. Characters.
_MAX_SEARCHED_CHARACTERS = 2000

#: Plain names of an error's fields, the best first.
_CODE_NAMES = ("errorcode", "failcode", "errcode", "code", "statuscode")
_MESSAGE_NAMES = (
    *("message", "msg", "failmsg", "failreason", "failurereason", "errormessage", "errormsg"),
    *("errmsg", "detail", "reason", "description", "errordescription"),
)
#: Plain names whose text is a code, and no reason in words.
_NAMES_OF_CODES = frozenset({*_CODE_NAMES, "type"})
#: Prefixes of the plain names of fields that tell why a task failed.
_BESIDE = ("fail", "err", "message", "msg", "reason")
#: Plain names of fields that repeat the request. They are not searched for a reason.
_OF_THE_REQUEST = frozenset({"input", "inputs", "param", "params", "prompt", "request"})
#: Errors inside errors, and reasons inside objects, are read to this depth. Levels.
_MAX_DEPTH = 4
#: The most objects of a task in which a reason is looked for. A step loop does this itself.
_MAX_OBJECTS = 1000
#: Codes and words that are no error, in lower case. Neither are numbers below 400.
_FINE = frozenset(
    {"", "success", "successful", "succeeded", "ok", "okay", "accepted", "created", "null", "none"}
)
#: A number with this many digits, or more, is not a code.
_MAX_DIGITS = 10
#: The first number that is the code of an error.
_MIN_ERROR_NUMBER = 400


def failure(error: Any, known: Codes, fallback: str = "the task failed") -> JobError:
    """Return the error of a failed task from the provider's reason.

    Args:
        error: the provider's error: an object, its JSON text, or a sentence.
        known: the provider's codes -> our code, and whether the error may pass. Another code is a
            failed generation, unless it or the words name a usual reason.
        fallback: the message without one.
    """
    details = _details(error)
    named, number, message = _named(details, known), _number(details), _words_of(error, details)
    listed = STATUS_ERRORS[number] if number in _TASK_STATUSES else None
    unlisted = listed or (ErrorCode.GENERATION_FAILED, False)
    code, retryable = _meaning(named, message, known, unlisted)
    shown = named or (str(number) if number is not None else None)
    return JobError(code, words(message, fallback), provider_code(shown), retryable)


def thin_success(error: Any, known: Codes) -> JobError:
    """Return the error of a success without a result. It may pass unless the provider says no."""
    given = failure(error, known, "the provider reported success without an image")
    listed = given.provider_code in known
    return replace(
        given,
        retryable=given.retryable or (given.code is ErrorCode.GENERATION_FAILED and not listed),
    )


def reason_of(task: Mapping[str, Any], error: Any) -> Any:
    """Return the provider's reason: its error, or usual fields of the task or of what it holds."""
    in_task = islice(_reasons(task, _MAX_DEPTH), _MAX_OBJECTS)
    return next(filter(_is_reason, chain([error], in_task)), None)


def _reasons(task: Mapping[str, Any], depth: int) -> Iterator[dict[str, Any]]:
    """Yield the fields of a task that may be its reason, then those of the objects in it."""
    yield {name: value for name, value in task.items() if name.lower().startswith(_BESIDE)}
    for name, value in task.items() if depth else ():
        if plain_name(name) not in _OF_THE_REQUEST:
            inner = parse_embedded(value) if isinstance(value, str) else value
            for each in inner if isinstance(inner, list) else [inner]:
                if isinstance(each, dict):
                    yield from _reasons(each, depth - 1)


def _is_reason(error: Any) -> bool:
    details = _details(error)
    return bool(_named(details, {}) or _number(details) or _words_of(error, details))


def _words_of(error: Any, details: Mapping[str, Any]) -> str | None:
    """Return the message of an error, or the first text of one of another form, or None."""
    known = _message(details)
    return known or (None if _is_fine(details) else _reason_in(error, _MAX_DEPTH))


def typed_error(document: Any) -> dict[str, Any] | None:
    """Return the error in `{detail: [{type, msg, loc}]}` or `{detail, error_type}`, or None.

    The first form is that of FastAPI. The result has the fields `code` and `message`.
    """
    detail = document.get("detail") if isinstance(document, dict) else None
    first = detail[0] if isinstance(detail, list) and detail else None
    if isinstance(first, dict) and isinstance(first.get("type"), str):
        loc, said = first.get("loc"), first.get("msg")
        steps = loc if isinstance(loc, list) else []
        place = ".".join(str(step) for step in steps if isinstance(step, str | int))
        message = f"{place}: {said}" if place and isinstance(said, str) else said
        return {"code": first["type"], "message": message}
    kind = document.get("error_type") if isinstance(document, dict) else None
    return {"code": kind, "message": detail} if isinstance(kind, str) and kind else None


def document_error(
    status: int, document: Mapping[str, Any], known: Codes, field: str = "error"
) -> JobError | None:
    """Return the error in an answer, or None when the answer reports none.

    An error is an object or a sentence in `field`, the code of an error, `success: false`, a state
    of failure, the usual words of a refusal, or any message with an HTTP status from 400. Case and
    separators of names do not matter.

    Args:
        status: HTTP status.
        document: the answer.
        known: the provider's codes -> our code, and whether the error may pass.
        field: the name of the error object.
    """
    plain = plain_names(document)
    given = next(filter(None, map(plain.get, (plain_name(field), "error", "errors"))), None)
    inner = _details(given)
    named = _named(inner, known) or _named({**plain, "type": None}, known)
    number = _error_number(inner) or _error_number(plain)
    own_message = _words_of(given, inner)
    message = own_message or _message(plain)
    stated = named or number or own_message or _usual(message)
    answered = status >= _MIN_ERROR_NUMBER and message
    if not (stated or answered or _is_refused(plain, given)):
        return None
    effective = number or status
    code, retryable = _meaning(named, message, known, _by_number(effective, status))
    missing = f"HTTP {status}" if number in (None, status) else f"code {number}"
    shown = named or (str(effective) if effective >= _MIN_ERROR_NUMBER else None)
    return JobError(code, words(message, missing), provider_code(shown), retryable)


def bare_error(reply: Reply) -> JobError:
    """Return the error of an answer without an error document of the provider."""
    code, retryable = by_status(reply.status)
    message = f"HTTP {reply.status} without an error document"
    if 300 <= reply.status < 400:
        message += "; redirects are not followed: check the provider's base URL"
    return JobError(code, message, str(reply.status), retryable)


def by_status(status: int) -> tuple[ErrorCode, bool]:
    """Return the error code of an HTTP status, and whether the error may pass."""
    unlisted = (
        (ErrorCode.PROVIDER_UNAVAILABLE, True) if status >= 500 else (ErrorCode.UNKNOWN, False)
    )
    return STATUS_ERRORS.get(status, unlisted)


def _by_number(number: int, status: int) -> tuple[ErrorCode, bool]:
    """Return what a code means as an HTTP status. Another number means what the status means."""
    return by_status(number if number < 600 else status)


def words(value: Any, fallback: str) -> str:
    """Return a provider's message, shortened, or `fallback` without a message."""
    return value[:_MAX_MESSAGE_CHARACTERS] if isinstance(value, str) and value else fallback


def provider_code(value: Any) -> str | None:
    """Return a provider's error code, shortened, or None without a code."""
    return value[:_MAX_CODE_CHARACTERS] if isinstance(value, str) and value else None


def _details(error: Any, depth: int = _MAX_DEPTH) -> dict[str, Any]:
    """Return an error as an object with plain names. An error may have another one inside."""
    if isinstance(error, list) and error:
        [error, *_] = error
    if isinstance(error, str) and error.lstrip().startswith("{"):
        with suppress(NotJson):
            error = parse_lenient(error)
    if isinstance(error, str):
        return {"message": error}
    if not isinstance(error, dict):
        return {}
    plain = plain_names(error)
    inner = plain.get("error")
    if inner and depth and not (_message(plain) or _named(plain, {}) or _number(plain)):
        return _details(inner, depth - 1)
    return plain


def _is_fine(details: Mapping[str, Any]) -> bool:
    """Return whether an error object says that there is no error."""
    values = [details[name] for name in (*_CODE_NAMES, *_MESSAGE_NAMES) if name in details]
    return any(
        value is None
        or (isinstance(value, str) and value.strip().lower() in _FINE)
        or (isinstance(value, int | float) and value < _MIN_ERROR_NUMBER)
        for value in values
    )


def _reason_in(error: Any, depth: int) -> str | None:
    """Return the first text in an error of another form, with its place: `prompt: too long`."""
    if isinstance(error, str) and depth and (inner := parse_embedded(error)) is not None:
        error = inner
    if isinstance(error, str):
        return error if error.strip().lower() not in _FINE else None
    places: Iterable[tuple[str, Any]] = ()
    if depth and isinstance(error, dict):
        places = ((n, v) for n, v in error.items() if plain_name(n) not in _NAMES_OF_CODES)
    elif depth and isinstance(error, list):
        places = (("", inner) for inner in error)
    for name, inner in places:
        reason = _reason_in(inner, depth - 1)
        if reason:
            return f"{name}: {reason}" if name else reason
    return None


def _named(details: Mapping[str, Any], known: Codes) -> str | None:
    """Return the code in words: a documented one if there is one."""
    names = (*_CODE_NAMES, "type")
    codes = [code for name in names if name in details and (code := provider_code(details[name]))]
    own = [code for code in (*codes, _message(details)) if code in known]
    named = own or [c for c in codes if c.strip().lower() not in _FINE and not _is_number(c)]
    return named[0] if named else None


def _number(details: Mapping[str, Any]) -> int | None:
    """Return the code that is a number."""
    for name in (*_CODE_NAMES, "status"):
        if name not in details:
            continue
        value = details[name]
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, float) and value.is_integer() and abs(value) < 10**_MAX_DIGITS:
            return int(value)
        if isinstance(value, str) and _is_number(value):
            return int(value.strip())
    return None


def _error_number(details: Mapping[str, Any]) -> int | None:
    number = _number(details)
    return number if number is not None and number >= _MIN_ERROR_NUMBER else None


def _is_number(text: str) -> bool:
    plain = text.strip()
    return plain.isascii() and plain.isdigit() and len(plain) < _MAX_DIGITS


def _is_refused(document: Mapping[str, Any], error: Any) -> bool:
    """Return whether an answer says "no" without a reason."""
    if error is True or False in (document.get("success"), document.get("ok")):
        return True
    states = (document.get("status"), document.get("state"))
    return any(isinstance(s, str) and terminal_status(s, {}) is Status.FAILED for s in states)


def _message(details: Mapping[str, Any]) -> str | None:
    texts = (details[name] for name in _MESSAGE_NAMES if name in details)
    worded = (each for each in texts if isinstance(each, str) and each.strip().lower() not in _FINE)
    return next(worded, None)


def _meaning(
    named: str | None, message: str | None, known: Codes, unlisted: tuple[ErrorCode, bool]
) -> tuple[ErrorCode, bool]:
    """Return what a documented code means, or else the usual words, or else `unlisted`."""
    listed = known.get(named) if named else None
    if listed and listed[0] not in _GENERAL:
        return listed
    return _usual(named) or _usual(message) or listed or unlisted


def _usual(text: str | None) -> tuple[ErrorCode, bool] | None:
    """Return what the usual words in a text mean, or None without such words."""
    return _searched(text[:_MAX_SEARCHED_CHARACTERS]) if text else None


@lru_cache(maxsize=256)  # a provider sends the same few texts again and again
def _searched(text: str) -> tuple[ErrorCode, bool] | None:
    return next((meaning for pattern, meaning in _WORDS if pattern.search(text)), None)
