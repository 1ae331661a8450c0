"""Errors in answers: code and words decide before the HTTP status."""

from __future__ import annotations

from typing import Any

from orchestrator.jobs.model import ErrorCode
from orchestrator.jsonio import dump
from orchestrator.providers.errors import (
    by_status,
    document_error,
    failure,
    reason_of,
    thin_success,
)
from tests.support.cases import for_each

CREDITS, POLICY = ErrorCode.INSUFFICIENT_CREDITS, ErrorCode.CONTENT_POLICY
GENERATION = ErrorCode.GENERATION_FAILED
RATE, TASKS, KEY = ErrorCode.RATE_LIMITED, ErrorCode.TASK_LIMIT, ErrorCode.AUTHENTICATION

STATUSES = (200, 400, 403, 404, 429, 500, 502)
#: A provider's message -> our code.
WORDS = {
    "Insufficient credits": CREDITS,
    "insufficient account balance": CREDITS,
    "Your account does not have enough credits": CREDITS,
    "You don't have sufficient balance": CREDITS,
    "The current credits are insufficient, please top up": CREDITS,
    "Your credit balance is too low": CREDITS,
    "User quota is not enough": CREDITS,
    "the account has no quota left": CREDITS,
    "You are out of credits. Please purchase more credits.": CREDITS,
    "You exceeded your current quota, please check your plan and billing details.": CREDITS,
    "\u4f59\u989d\u4e0d\u8db3": CREDITS,
    "Your prompt violates our usage policies": POLICY,
    "Content policy violation": POLICY,
    "The request was rejected by the safety system": POLICY,
    "Blocked by moderation": POLICY,
    "NSFW content detected": POLICY,
    "The prompt contains sensitive words": POLICY,
    "Rate limit exceeded": RATE,
    "Too many requests, slow down": RATE,
    "Active task limit exceeded": TASKS,
    "Too many concurrent tasks": TASKS,
    "Invalid API key provided": KEY,
    "Unauthorized": KEY,
}
#: Messages that name no usual reason.
OTHERS = [
    "no", "the task failed", "Internal server error", "upstream request timeout",
    "moderation service did not answer", "Access denied for this model",
    "the upstream model refused the prompt", "unknown field: credits", "invalid parameters",
    "an image of a piano, credits to the author", "Upstream AI service unavailable",
]  # fmt: skip


def test_the_usual_words_decide_before_the_http_status() -> None:
    for message, code in WORDS.items():
        for status in STATUSES:
            for document in ({"error": {"message": message}}, {"msg": message}, {"error": message}):
                error = document_error(status, document, {})
                assert error is not None
                assert (error.code, error.message) == (code, message)


@for_each("message", OTHERS)
def test_other_words_leave_it_to_the_status(message: str) -> None:
    for status in (400, 403, 404, 429, 500):
        error = document_error(status, {"message": message}, {})
        assert error is not None
        assert (error.code, error.retryable) == by_status(status)
    assert failure(message, {}).code is ErrorCode.GENERATION_FAILED


@for_each(
    "document",
    [
        {"code": 402}, {"code": "402"}, {"error": {"code": 402}}, {"error": {"status": 402}},
        {"errors": [{"code": 402}]}, {"error": '{"code": 402}'}, {"status": 402},
        {"error": {"type": "insufficient_quota"}}, {"code": "INSUFFICIENT_CREDITS"},
        {"Error": None, "error": {"code": 402}}, {"code": 402.0}, {"Code": 402},
        {"ERROR": {"statusCode": "402"}}, {"errorCode": 402},
        {"error": {"error": {"code": 402}}}, {"error": '{"error": {"code": 402}}'},
    ],
)  # fmt: skip
def test_the_code_decides_before_the_http_status(document: dict[str, Any]) -> None:
    for status in STATUSES:
        error = document_error(status, document, {})
        assert error is not None
        assert error.code is CREDITS


@for_each(
    "document",
    [
        {"success": False}, {"ok": False}, {"error": True}, {"status": "error"}, {"state": "FAIL"},
        {"error": "no"}, {"error": {"message": "no"}}, {"code": "no_channel"}, {"code": 1001},
        {"errors": {"prompt": ["no"]}}, {"error": {"message": {"text": "no"}}}, {"Success": False},
    ],
)  # fmt: skip
def test_an_error_in_a_200_is_an_error(document: dict[str, Any]) -> None:
    error = document_error(200, document, {})

    assert error is not None
    assert (error.code, error.retryable) == (ErrorCode.UNKNOWN, False)


def test_an_error_of_another_form_keeps_its_first_words_with_their_place() -> None:
    for error, words in (
        ({"prompt": ["", "too long"], "n": ["7"]}, "prompt: too long"),
        ({"input": {"prompt": "too long"}}, "input: prompt: too long"),
        ([{"loc": ["prompt"], "id": 1}], "loc: prompt"),
    ):
        refusal = document_error(422, {"errors": error}, {})
        assert refusal is not None
        assert (refusal.code, refusal.message) == (ErrorCode.INVALID_REQUEST, words)


def test_anything_else_in_a_200_is_none() -> None:
    documents: list[dict[str, Any]] = [
        {},
        {"code": 200},
        {"code": 0, "msg": "ok"},
        {"code": "success", "message": ""},
        {"error": None},
        {"error": {}},
        {"error": ""},
        {"error": []},
        {"error": False},
        {"message": "on its way"},
        {"type": "image", "object": "task"},
        {"status": "pending"},
        {"code": None},
        {"code": True},
        {"error": {"code": 0, "message": "success"}},
        {"error": {"code": 0, "request_id": "x"}},
        {"error": "{}"},
        {"error": '{"code": 0}'},
        {"error": '{"errors": {"prompt": []}}'},
        {"error": {"code": None, "message": None, "request_id": "x"}},
        {"error": {"request_id": 7, "more": [None, "", {"ok": "ok"}]}},
        {"success": True},
        {"code": "OK"},
    ]
    for document in documents:
        assert document_error(200, document, {}) is None


def test_a_documented_code_decides_unless_it_is_a_general_one() -> None:
    known = {
        "no_coins": (CREDITS, False),
        "bad": (ErrorCode.INVALID_REQUEST, False),
    }

    for code, message, ours in (
        ("no_coins", "Rate limit exceeded", CREDITS),
        ("bad", "Content policy violation", POLICY),
        ("bad", "no", ErrorCode.INVALID_REQUEST),
    ):
        error = document_error(500, {"error": {"type": code, "message": message}}, known)
        assert error is not None
        assert (error.code, error.provider_code) == (ours, code)
        assert failure({"code": code, "message": message}, known).code is ours


def test_a_thin_success_may_pass_unless_the_provider_says_no() -> None:
    known = {"broke": (ErrorCode.GENERATION_FAILED, False)}

    assert thin_success(None, known).message == "the provider reported success without an image"
    for reason, retryable in (
        (None, True),
        ("a bad day", True),
        ({"code": "new", "message": "a bad day"}, True),
        ({"code": "broke"}, False),
        ("Content policy violation", False),
    ):
        assert thin_success(reason, known).retryable is retryable


def test_a_failed_task_keeps_its_reason_wherever_it_stands() -> None:
    known = {"SLOW": (ErrorCode.TIMEOUT, True)}
    policy = "Content policy violation"
    for task, code, message in (
        ({"metadata": {"error": {"message": policy}}}, POLICY, policy),
        ({"results": [{"url": None}, {"error": policy}]}, POLICY, policy),
        ({"resultJson": dump({"urls": [], "reason": policy}).decode()}, POLICY, policy),
        ({"error": {"message": {"text": policy}}}, POLICY, f"message: text: {policy}"),
        ({"error": {"code": "x", "prompt": ["too long"]}}, GENERATION, "prompt: too long"),
        ({"error": "SLOW"}, ErrorCode.TIMEOUT, "SLOW"),
        ({"input": {"message": policy}, "param": f'{{"error": "{policy}"}}'}, GENERATION, "none"),
        ({"error": {"code": 0}, "message": "ok"}, GENERATION, "none"),
        ({"error": {"code": "x"}}, GENERATION, "none"),
    ):
        error = failure(reason_of(task, task.get("error")), known, "none")
        assert (error.code, error.message) == (code, message), task


def test_few_objects_of_a_task_are_searched_for_a_reason() -> None:
    """The search runs in the thread of all steps. An answer may have a million objects."""
    searched: list[int] = []

    class Counted(dict[str, Any]):
        def items(self) -> Any:
            searched.append(1)
            return super().items()

    task = {"logs": [Counted() for _ in range(5000)]}

    assert reason_of(task, "Content policy violation") == "Content policy violation"
    assert not searched
    assert reason_of(task, None) is None
    assert len(searched) < len(task["logs"])
