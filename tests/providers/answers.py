"""The meaning of answers for every adapter: documented answers, odd answers and garbage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.jobs.model import ErrorCode, JobError, Status
from orchestrator.jsonio import dump
from orchestrator.net.http_types import Reply
from orchestrator.providers.responses import (
    Accepted,
    Ambiguous,
    QueryFailed,
    Rejected,
    TaskNotFound,
    TaskReport,
    Unreadable,
)
from tests.providers.adapter import AdapterTests
from tests.support.fakes import NOON
from tests.support.strategies import TEXT

#: The names and words of answers, so that made-up ones get past the first check.
NAMES = st.sampled_from(
    [
        "id", "taskId", "task_id", "data", "status", "state", "output", "url", "expireAt", "type",
        "error", "code", "message", "msg", "error_code", "param", "fallback_suggestion", "failCode",
        "failMsg", "results", "result_url", "result_urls", "resultJson", "resultUrls", "metadata",
        "usage", "credits_reserved", "task_info", "estimated_time", "progress",
    ]
)  # fmt: skip
WORDS = st.sampled_from(
    [
        "success", "succeeded", "completed", "fail", "failed", "cancelled", "waiting", "50%",
        "TASK_FAILED", "rate_limit_error", "IDEMPOTENCY_KEY_PROCESSING", "https://e.example/a.png",
    ]
)  # fmt: skip
_LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | TEXT | WORDS


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=4) | st.dictionaries(NAMES | TEXT, inner, max_size=6)


def _cut(text: str) -> st.SearchStrategy[str]:
    return st.integers(0, len(text)).map(lambda end: text[:end])


#: JSON within a string, whole or cut off.
JSON_TEXT = (
    st.recursive(_LEAVES, _nested, max_leaves=6)
    .map(lambda value: dump(value).decode())
    .flatmap(lambda text: st.just(text) | _cut(text))
)
#: Any JSON of any shape.
JSON = st.recursive(
    _LEAVES | st.sampled_from([200, 404, 409, 500]) | JSON_TEXT, _nested, max_leaves=12
)
#: Values of other types and shapes, in place of any value of an answer.
ODD: list[Any] = [
    None, True, 0, -7, 404, 1e300, "", "x", "7", "[", '{"resultUrls":7}', [], [7], [None], ["x"],
    [[]], {}, {"code": 7}, {"code": "x", "message": "y"}, {"message": []}, {"result_urls": 7},
]  # fmt: skip
HEADERS = st.dictionaries(
    st.just("retry-after"),
    TEXT | st.sampled_from(["5", "-1", "inf", "nan", "1e400", "Wed, 21 Oct 2026 07:28 GMT"]),
)
#: Each of the adapters draws this many examples.
FUZZ = settings(
    max_examples=12,
    suppress_health_check=[HealthCheck.differing_executors],  # each adapter inherits the test
)
STATUS = st.integers(100, 599) | st.integers(-1, 10_000)


#: HTTP status of an answer without an error document -> our code, and whether the error may pass.
BARE_ERRORS = (
    (400, ErrorCode.INVALID_REQUEST, False),
    (401, ErrorCode.AUTHENTICATION, False),
    (402, ErrorCode.INSUFFICIENT_CREDITS, False),
    (403, ErrorCode.PERMISSION, False),
    (404, ErrorCode.NOT_FOUND, False),
    (408, ErrorCode.TIMEOUT, True),
    (409, ErrorCode.TASK_LIMIT, True),
    (413, ErrorCode.TOO_LARGE, False),
    (418, ErrorCode.UNKNOWN, False),
    (422, ErrorCode.INVALID_REQUEST, False),
    (429, ErrorCode.RATE_LIMITED, True),
)


class AnswersContract(AdapterTests):
    """Answers to a submit and to a query, and the bodies of callbacks."""

    # Answers to a submit -------------------------------------------------------------------

    @pytest.mark.parametrize("status", [502, 504, 500, 503])
    def test_a_gateways_error_page_is_ambiguous(self, status: int) -> None:
        read = self.submitted(status, b"<html><h1>Bad Gateway</h1></html>", **{"retry-after": "7"})

        assert read == Ambiguous(f"HTTP {status} without an error document", 7.0)

    def test_a_gateways_json_error_is_ambiguous(self) -> None:
        bodies = (
            b'{"message":"Endpoint request timed out"}',
            b'{"msg":"upstream timed out"}',
            b'{"error":{"message":"upstream timed out"}}',
            b'{"error":"bad gateway"}',
        )
        for status in (500, 502, 503, 504):
            for body in bodies:
                assert isinstance(self.submitted(status, body), Ambiguous), (status, body)

    @pytest.mark.parametrize("status", [200, 400, 503])
    @pytest.mark.parametrize("code", [500, 502, 503, "504"])
    def test_the_number_of_a_5xx_in_any_answer_is_ambiguous(
        self, code: int | str, status: int
    ) -> None:
        body = dump({"code": code, "msg": "no answer", "message": "no answer", "data": None})

        assert isinstance(self.submitted(status, body), Ambiguous)

    def test_a_2xx_without_a_task_is_ambiguous(self) -> None:
        for body in (b"", b"<html>", b"[]", b'"ok"', b"{}", b"\xff", b"{"):
            assert isinstance(self.submitted(200, body), Ambiguous), body

    def test_a_bare_4xx_is_a_rejection(self) -> None:
        for status, code, retryable in BARE_ERRORS:
            read = self.submitted(status, b"<html>", **{"retry-after": "7"})

            assert isinstance(read, Rejected)
            assert (read.error.code, read.error.retryable) == (code, retryable)
            assert read.error.provider_code == str(status)
            assert read.retry_after == 7.0

    def test_a_redirect_is_a_rejection_that_names_the_base_url(self) -> None:
        for status in (301, 302, 307, 308):
            read = self.submitted(status, b"", location="https://elsewhere.example")

            assert isinstance(read, Rejected)
            assert "check the provider's base URL" in read.error.message

    def test_a_refusal_inside_a_2xx_is_a_rejection_at_every_depth(self) -> None:
        refusal: dict[str, Any] = {"code": 402, "message": "Insufficient credits"}
        for body in (
            {"data": refusal},
            {"code": 200, "msg": "success", "data": {"error": refusal}},
            {"result": {"response": [refusal]}},
            {"error": {"error": refusal}},
            {"Error": {"Code": "402", "Message": "Insufficient credits"}},
        ):
            read = self.submitted(200, dump(body))

            assert isinstance(read, Rejected), body
            assert read.error.code is ErrorCode.INSUFFICIENT_CREDITS
            assert (read.error.message, read.error.provider_code) == (refusal["message"], "402")

    def test_the_documented_answer_is_accepted(self) -> None:
        assert isinstance(self.submitted(200, self.payload("accepted")), Accepted)

    # Answers to a query, and callbacks -----------------------------------------------------

    def test_an_unknown_state_counts_as_running(self) -> None:
        for state in ("queued", "a-new-one", "", "success soon", "not done"):
            report = self.provider.read_task(self.task(**{self.state_field: state}), NOON)
            assert (report.state, report.outcome, report.thin_success) == (state, None, None)

    def test_a_running_task_shows_the_results_that_it_has_already(self) -> None:
        task = {**self.with_links("https://e.example/a.png"), self.state_field: "a-new-one"}

        report = self.provider.read_task(task, NOON)

        assert report.outcome is None
        assert [image.source_url for image in report.images] == ["https://e.example/a.png"]

    def test_a_task_with_results_and_without_a_state_counts_as_running(self) -> None:
        """So it is a success at the deadline. Another task in the answer counts before it."""
        link = "https://e.example/a.png"
        states: list[Any] = [None, 2, True, [], {}]
        for state in states:
            task = {**self.with_links(link), self.state_field: state}
            read = self.queried(200, dump(self.enveloped(task)))
            assert isinstance(read, TaskReport), state
            assert (read.outcome, read.thin_success) == (None, None)
            assert [image.source_url for image in read.images] == [link]

        whole = self.with_links(link)
        read = self.queried(200, dump({self.id_field: "an-event", "data": whole}))
        assert read == self.provider.read_task(whole, NOON)

    def test_success_without_an_image_is_a_thin_success_that_may_pass(self) -> None:
        for task in (self.task(), self.with_links(), self.with_links("ftp://e.example/a", None, 7)):
            report = self.provider.read_task(task, NOON)
            error = report.thin_success
            assert report.outcome is None
            assert error is not None
            assert (error.code, error.retryable) == (ErrorCode.GENERATION_FAILED, True)
            assert error.message == "the provider reported success without an image"

    def test_a_thin_success_keeps_the_providers_reason(self) -> None:
        for message, code, retryable in (
            ("The image was blocked by our content policy.", ErrorCode.CONTENT_POLICY, False),
            ("The upstream is having a bad day.", ErrorCode.GENERATION_FAILED, True),
        ):
            task = {**self.failed("NEW_ONE", message), self.state_field: self.success}
            error = self.provider.read_task(task, NOON).thin_success
            assert error is not None
            assert (error.code, error.message, error.retryable) == (code, message, retryable)
            assert error.provider_code == "NEW_ONE"

    def test_links_that_are_not_http_are_dropped(self) -> None:
        odd: list[Any] = ["javascript:alert(1)", "file:///etc/passwd", "", None, 7, {}, ["x"]]
        long = "https://e.example/" + "a" * 8192

        task = self.with_links("https://e.example/a.png", *odd, long, "http://e.example/b.png")

        report = self.provider.read_task(task, NOON)
        assert self.links_of(report) == ["https://e.example/a.png", "http://e.example/b.png"]

    def test_a_failure_without_a_reason_is_a_failure(self) -> None:
        odd: list[Any] = [None, "no", 7, [], {}, {"code": [], "message": {}}, {"code": "NEW_ONE"}]
        for error in odd:
            outcome = self.provider.read_task(self.failed_oddly(error), NOON).outcome
            assert outcome is not None
            assert outcome.error is not None
            assert outcome.error.code is ErrorCode.GENERATION_FAILED
            assert not outcome.error.retryable

    def test_an_odd_task_id_is_refused(self) -> None:
        odd: list[Any] = ["", " ", "a b", "a\n", "\u00e9", "\0", "x" * 257, ".", ".."]
        for task_id in [*odd, None, True, 1.5, [], {}]:
            with pytest.raises(Unreadable):
                self.provider.read_task(self.task(**{self.id_field: task_id}), NOON)

    def test_a_printable_task_id_is_accepted_unchanged(self) -> None:
        for task_id in ("t", "x" * 256, "task-unified-1757165031-uyujaw3d", "a/../b"):
            report = self.provider.read_task(self.task(**{self.id_field: task_id}), NOON)
            assert report.task_id == task_id

    def test_a_document_that_is_not_a_task_is_unreadable(self) -> None:
        states: list[Any] = [None, 7, True, [], {}]
        documents: list[Any] = [None, [], "task", 7, {}, {self.id_field: "task-1"}]
        for document in [*documents, *(self.task(**{self.state_field: s}) for s in states)]:
            with pytest.raises(Unreadable):
                self.provider.read_task(document, NOON)

    def test_a_task_is_read_inside_its_envelope(self) -> None:
        task = self.with_links("https://e.example/a.png")

        read = self.queried(200, dump(self.enveloped(task)))

        assert read == self.provider.read_task(task, NOON)
        assert isinstance(read, TaskReport)
        assert self.links_of(read) == ["https://e.example/a.png"]

    def test_a_server_error_with_a_task_inside_is_a_failed_query(self) -> None:
        body = dump(self.enveloped(self.with_links("https://e.example/a.png")))

        assert isinstance(self.queried(500, body), QueryFailed)

    def test_a_bare_404_is_a_failed_query_since_a_wrong_base_url_answers_so_too(self) -> None:
        assert isinstance(self.queried(404, b"<html>"), QueryFailed)

    def test_an_unreadable_answer_to_a_query_is_a_retryable_failure(self) -> None:
        odd = dump({self.state_field: 7})
        for body in (b"", b"<html>", b"[]", b"{}", odd, dump(self.enveloped(None))):
            for status in (200, 500, 502, 504):
                read = self.queried(status, body, **{"retry-after": "9"})
                assert isinstance(read, QueryFailed)
                assert read.error.retryable
                assert read.retry_after == 9.0

    def test_a_long_message_is_shortened(self) -> None:
        long = self.failed("X" * 5000, "m" * 5000)
        outcome = self.provider.read_task(long, NOON).outcome

        assert outcome is not None
        assert outcome.error is not None
        assert len(outcome.error.message) == 1000
        assert outcome.error.provider_code == "X" * 100

    def test_a_retry_after_is_limited_to_an_hour_and_an_odd_one_is_ignored(self) -> None:
        expected: dict[str, float | None] = {"1.5": 1.5, "-7": 0.0, "1e9": 3600.0, "soon": None}
        for header, seconds in expected.items():
            read = self.submitted(429, b"", **{"retry-after": header})

            assert isinstance(read, Rejected)
            assert read.retry_after == seconds

    # Garbage -------------------------------------------------------------------------------

    @FUZZ
    @given(status=STATUS, headers=HEADERS, body=st.binary() | JSON.map(dump))
    def test_no_answer_whatever_makes_reading_raise(
        self, status: int, headers: dict[str, str], body: bytes
    ) -> None:
        self.check_reading(Reply(status, headers, body))

    @FUZZ
    @given(document=JSON, state=WORDS, more=st.dictionaries(NAMES, JSON))
    def test_a_task_from_outside_raises_unreadable_at_most(
        self, document: Any, state: str, more: dict[str, Any]
    ) -> None:
        for seen in (document, {self.id_field: "t", **more, self.state_field: state}):
            with suppress(Unreadable):
                self.check_report(self.provider.read_task(seen, NOON))
            if isinstance(seen, dict):
                with suppress(Unreadable):
                    assert self.provider.read_accepted(seen).task_id
            self.check_reading(Reply(200, {}, dump(self.enveloped(seen))))

    @pytest.mark.slow
    def test_an_answer_with_any_one_value_replaced_is_still_read(self, each_answer: str) -> None:
        for *path, last in _places(self.document(each_answer)):
            for odd in ODD:
                document = inner = self.document(each_answer)
                for step in path:
                    inner = inner[step]
                inner[last] = odd
                for status in (200, 400):
                    self.check_reading(Reply(status, {}, dump(document)))

    def check_reading(self, reply: Reply) -> None:
        """Check that an answer is read as one of the documented results, with a message."""
        submitted = self.provider.read_submit(reply)
        assert isinstance(submitted, Accepted | Rejected | Ambiguous)
        if isinstance(submitted, Rejected):
            self.check_error(submitted.error)
        queried = self.provider.read_query(reply, NOON)
        assert isinstance(queried, TaskReport | TaskNotFound | QueryFailed)
        if isinstance(queried, QueryFailed):
            self.check_error(queried.error)
        if isinstance(queried, TaskReport):
            self.check_report(queried)

    def check_report(self, report: TaskReport) -> None:
        assert 1 <= len(report.task_id) <= 256
        if report.outcome:
            assert report.outcome.status.terminal
            assert bool(report.outcome.images) == (report.outcome.status is Status.SUCCEEDED)
            assert bool(report.outcome.error) != bool(report.outcome.images)
            assert report.thin_success is None
        for error in (report.outcome and report.outcome.error, report.thin_success):
            if error:
                self.check_error(error)

    def check_error(self, error: JobError) -> None:
        assert isinstance(error.code, ErrorCode)
        assert 1 <= len(error.message) <= 1500
        assert error.provider_code is None or 1 <= len(error.provider_code) <= 100

    @pytest.mark.slow
    def test_deep_nesting_in_every_place_is_read_without_harm(self, each_answer: str) -> None:
        deep = b"[" * 1020 + b"]" * 1020
        for *path, last in _places(self.document(each_answer)):
            document = inner = self.document(each_answer)
            for step in path:
                inner = inner[step]
            error = {"code": "@deep@", "message": "@deep@", "type": "@deep@"}
            for status, value in ((200, "@deep@"), (400, error)):
                inner[last] = value
                body = dump(document).replace(b'"@deep@"', deep)
                self.check_reading(Reply(status, {}, body))


def _places(value: Any) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every value inside a JSON value."""
    inside: Any = ()
    if isinstance(value, dict):
        inside = value.items()
    elif isinstance(value, list):
        inside = enumerate(value)
    for name, inner in inside:
        yield (name,)
        yield from ((name, *rest) for rest in _places(inner))
