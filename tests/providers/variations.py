"""Variations of the documented answers, drawn at random. Each has the documented meaning."""

from __future__ import annotations

import base64
import gzip
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.callbacks.body import read_body
from orchestrator.jobs.model import ErrorCode, Image, Status
from orchestrator.jsonio import dump, parse
from orchestrator.net.http_types import Reply
from orchestrator.providers.responses import Rejected, TaskReport, Unreadable
from tests.providers.adapter import AdapterTests
from tests.providers.answers import FUZZ
from tests.support.fakes import NOON

#: The bytes of an image that comes inside an answer.
CONTENT = b"\x89PNG\r\n\x1a\n" + bytes(range(255))  # its base64 needs padding
_BASE64 = base64.b64encode(CONTENT).decode()


def _odd_fields(body: bytes) -> bytes:
    """Add fields that a strict parser refuses, if the body is an object."""
    odd = rb'{"echo":"cat \ud83d","ratio":NaN,"max":1e400,"note":"a' + b"\n\tb" + b'",'
    return odd + body[1:] if body[:1] == b"{" and body != b"{}" else body


#: How the JSON of an answer may be written.
WRITTEN: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda body: body,
    "with a BOM": lambda body: b"\xef\xbb\xbf" + body,
    "in UTF-16": lambda body: body.decode().encode("utf-16"),
    "with NULs": lambda body: body + b"\n\0\0",
    "with odd fields": _odd_fields,
    "in a list": lambda body: b"[" + body + b"]",
    "as JSON text": lambda body: dump(body.decode()),
}
#: How a callback may be sent.
SENT: dict[str, Callable[[bytes], bytes]] = {
    **WRITTEN,
    "enveloped": lambda body: b'{"code":200,"msg":"success","data":' + body + b"}",
    "as an event": lambda body: b'{"type":"done","payload":' + body + b"}",
    "in a form": lambda body: urlencode({"data": body}).encode(),
    "in gzip": gzip.compress,
    "in zlib": zlib.compress,
}
#: Spellings of a state.
SPELLED: list[Callable[[str], str]] = [
    str,
    str.upper,
    str.title,
    lambda state: f" {state}\n",
    lambda state: f"TASK_{state.upper()}",
]
#: Spellings of a link that a browser opens all the same.
LINKED: list[Callable[[str], str]] = [
    str,
    lambda link: f"  {link}\r\n",
    lambda link: link.replace("https:", "HTTPS:"),
    lambda link: link.replace("https://", "//"),
    lambda link: link.replace("%20", " "),
    lambda link: f"\ufeff{link[:12]}\n{link[12:]}",
]
LINK = "https://cdn.example.com/my%20cat.png?sig=a%2Fb+c=="
#: One image, as text or as an object -> what is read of it.
ITEMS: list[tuple[Any, Image]] = [
    *(
        (item, Image(LINK))
        for text in (spelled(LINK) for spelled in LINKED)
        for item in (text, {"url": text}, {"image_url": text, "thumbnail": "https://e.example/t"})
    ),
    *(
        (item, Image("", content=CONTENT))
        for item in (
            f"data:image/png;base64,{_BASE64}",
            f"DATA:image/png;name=a.png;BASE64,{_BASE64[:40]}\n{_BASE64[40:]}",
            {"url": f"data:image/png;base64,{_BASE64.replace('+', '-').replace('/', '_')}"},
            {"b64_json": _BASE64},
            {"b64_json": _BASE64.rstrip("="), "url": None, "revised_prompt": "https://e.example"},
            {"mime_type": "image/png", "data": _BASE64},
            {"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": _BASE64}}]}},
            _BASE64,
        )
    ),
]
#: How several results may be written.
HELD: list[Callable[[list[Any]], Any]] = [
    lambda items: items,
    lambda items: [[item] for item in items],
    lambda items: {"images": items},
    lambda items: {str(at): item for at, item in enumerate(items)},
    lambda items: dump(items).decode(),
    lambda items: dump({"resultUrls": items}).decode(),
    lambda items: dump(dump({"result_urls": items}).decode()).decode(),
    lambda items: [dump(item).decode() for item in items],
]
#: Usual names of the end of a task.
NAMES = {
    Status.SUCCEEDED: "success succeeded Completed complete DONE finished ok JOB_STATE_SUCCEEDED"
    " partial_success Partially-Completed generated",
    Status.FAILED: "fail failed FAILURE error errored rejected timed-out TASK_FAILED unsuccessful"
    " Content_Moderated",
    Status.CANCELLED: "cancelled canceled CANCELED aborted",
}
PLACES = ["output", "results", "result", "resultJson", "result_urls", "response"]
#: The provider's words -> our code.
REASONS = {
    "The wheel came off.": ErrorCode.GENERATION_FAILED,
    "Your prompt violates our content policy.": ErrorCode.CONTENT_POLICY,
    "Insufficient credits.": ErrorCode.INSUFFICIENT_CREDITS,
    "Rate limit exceeded, try again later.": ErrorCode.RATE_LIMITED,
}


class VariationsContract(AdapterTests):
    """Documented answers in other spellings, forms and envelopes."""

    @FUZZ
    @given(st.data())
    def test_a_documented_answer_keeps_its_meaning(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.rows()["each_answer"]))
        plain = self.document(name)
        spell = data.draw(st.sampled_from(SPELLED))
        link = str if name.startswith("error") else data.draw(st.sampled_from(LINKED))
        varied = self._respelled(plain, spell, link)
        body = WRITTEN[data.draw(st.sampled_from(sorted(WRITTEN)))](dump(varied))

        for status in (200, data.draw(st.sampled_from([201, 400, 402, 404, 429, 500, 503]))):
            was, now = Reply(status, {}, dump(plain)), Reply(status, {}, body)
            assert self.provider.read_submit(now) == self.provider.read_submit(was)
            assert self._queried_as(now) == self._queried_as(was)

    @FUZZ
    @given(st.data())
    def test_a_callback_keeps_its_meaning(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.rows()["each_answer"]))
        body = SENT[data.draw(st.sampled_from(sorted(SENT)))](self.payload(name))

        assert self._called_back(body) == self._called_back(self.payload(name))

    @FUZZ
    @given(st.data())
    def test_results_are_found_in_every_form(self, data: st.DataObject) -> None:
        drawn = data.draw(st.lists(st.sampled_from(ITEMS), min_size=1, max_size=3))
        held = data.draw(st.sampled_from(HELD))([item for item, _ in drawn])
        place = data.draw(st.sampled_from(PLACES))
        state = data.draw(st.sampled_from(SPELLED))(self.success)

        report = self.provider.read_task(
            self.task(**{place: held, self.state_field: state, "input": {"image": LINK}}), NOON
        )

        expected = [image for _, image in drawn]
        assert report.outcome is not None
        assert [replace(image, expires_at=None) for image in report.outcome.images] == expected

    @FUZZ
    @given(st.data())
    def test_a_reason_has_its_meaning_in_every_form(self, data: st.DataObject) -> None:
        message, code = data.draw(st.sampled_from(sorted(REASONS.items())))
        state = data.draw(st.sampled_from(SPELLED))(self.failure)
        task = {**self.failed("X1", message), self.state_field: state}

        report = self.provider.read_task(task, NOON)

        assert report.outcome is not None
        assert report.outcome.error is not None
        assert (report.outcome.error.code, report.outcome.error.message) == (code, message)

    def test_the_usual_names_of_a_state_are_known(self) -> None:
        for status, names in NAMES.items():
            for state in names.split():
                task = self.with_links(LINK) | {self.state_field: state}
                outcome = self.provider.read_task(task, NOON).outcome
                assert outcome is not None, state
                assert outcome.status is status

    def test_an_envelope_that_looks_like_a_task_does_not_hide_the_task(self) -> None:
        made, failed = self.with_links(LINK), self.failed("X1", "The wheel came off.")
        outer = {self.id_field: "evt-1", self.state_field: self.envelope_state}
        inner = {self.id_field: "file-1", self.state_field: self.envelope_state}
        for document in (
            {**outer, "data": made},
            {**outer, "data": failed},
            {**made, "data": inner},
            {**failed, "data": inner},
        ):
            assert self.provider.read_callback(document, NOON).task_id == "task-1", document

    def test_no_image_of_the_request_is_a_result(self) -> None:
        for name in ("input", "param", "request", "thumbnail", "preview_url", "callback_url"):
            task = self.task(**{name: {"images": [LINK], "url": LINK}})
            assert self.provider.read_task(task, NOON).thin_success, name
        for model in self.provider.models.values():
            if "images" in model.options:
                task = self.task(**{model.options["images"][-1]: [LINK]})
                assert self.provider.read_task(task, NOON).thin_success

    def test_an_answer_with_an_error_is_a_no_with_any_status(self) -> None:
        for body in ({"code": 402}, {"error": {"message": "Insufficient credits"}}):
            for status in (200, 400, 403, 502):
                read = self.provider.read_submit(Reply(status, {}, dump(body)))
                assert isinstance(read, Rejected), (status, body)
                assert read.error.code is ErrorCode.INSUFFICIENT_CREDITS

    # ---------------------------------------------------------------------------------------

    def _respelled(
        self, value: Any, spell: Callable[[str], str], link: Callable[[str], str]
    ) -> Any:
        """Return a document with its terminal states and its links in another spelling."""
        if isinstance(value, dict):
            return {
                name: spell(inner)
                if name == self.state_field and inner in (self.success, self.failure)
                else self._respelled(inner, spell, link)
                for name, inner in value.items()
            }
        if isinstance(value, list):
            return [self._respelled(inner, spell, link) for inner in value]
        if isinstance(value, str) and value.startswith("{"):
            return dump(self._respelled(parse(value), spell, link)).decode()
        return link(value) if isinstance(value, str) and value.startswith("https://") else value

    def _queried_as(self, reply: Reply) -> Any:
        read = self.provider.read_query(reply, NOON)
        return replace(read, state="") if isinstance(read, TaskReport) else read

    def _called_back(self, body: bytes) -> TaskReport | None:
        try:
            return self.provider.read_callback(read_body(body), NOON)
        except Unreadable:
            return None
