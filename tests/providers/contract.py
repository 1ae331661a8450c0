"""What every adapter must do, whatever its wire form. `test_<provider>.py` inherits it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from orchestrator.jobs import JobRequest
from orchestrator.validation import InvalidRequest
from orchestrator.wire import dump
from tests.providers.adapter import CALLBACK_URL, KEY
from tests.providers.answers import AnswersContract


class ProviderContract(AnswersContract):
    """Requests and refusals; and all that answers must be taken for."""

    # Requests ------------------------------------------------------------------------------

    def test_a_unified_request_is_written_in_the_providers_own_words(self) -> None:
        request = JobRequest(self.name, self.model, options=self.unified)

        self.provider.check(request)

        assert self.provider.body(request) == self.body

    def test_a_native_request_is_sent_as_it_is(self) -> None:
        request = self.native(self.body)

        self.provider.check(request)

        assert self.provider.body(request) == self.body

    def test_documented_requests_are_accepted_and_sent_as_they_are(self) -> None:
        for name in self.documented:
            body = self.document(name)
            request = self.native(body, body["model"])
            self.provider.check(request)
            assert self.provider.submit_call(self.provider.body(request), None, KEY).body == body

    def test_the_callback_url_is_where_the_document_has_it(self) -> None:
        sent: Any = self.provider.submit_call(self.body, CALLBACK_URL, KEY).body
        for step in self.callback_path:
            sent = sent[step]

        assert sent == CALLBACK_URL

    def test_no_callback_is_asked_for_when_there_is_no_url(self) -> None:
        assert self.provider.submit_call(self.body, None, KEY).body == self.body

    def test_a_request_is_not_changed_by_writing_its_call(self) -> None:
        request = self.native(self.document(self.documented[0]))

        self.provider.submit_call(self.provider.body(request), CALLBACK_URL, KEY)

        assert request.native == self.document(self.documented[0])

    @pytest.mark.parametrize(
        "prompt", ["\u00e9\u0301 \U0001f9ff\n\t\u2028\ufeff", "  x  ", "\0", "%7B\\u0041"]
    )
    def test_a_prompt_reaches_the_wire_byte_for_byte(self, prompt: str) -> None:
        request = self.request(prompt=prompt)
        self.provider.check(request)

        call = self.provider.submit_call(self.provider.body(request), CALLBACK_URL, KEY)

        assert prompt in _texts(orjson.loads(dump(call.body)))

    def test_a_call_does_not_hold_the_api_key(self) -> None:
        for call in (self.provider.submit_call({}, None, KEY), self.provider.query_call("t")):
            assert "authorization" not in {name.lower() for name in call.headers}

    def test_a_task_id_cannot_leave_its_place_in_the_path(self) -> None:
        path = self.provider.query_call("../a/b?c#d %").path

        assert path.endswith("/..%2Fa%2Fb%3Fc%23d%20%25")

    # Refusals ------------------------------------------------------------------------------

    def test_each_limit_is_refused_with_field_value_and_what_is_allowed(self) -> None:
        for option, cases in self.refused.items():
            for value, allowed in cases:
                with pytest.raises(InvalidRequest) as refusal:
                    self.provider.check(self.request(**{option: value}))
                violation = refusal.value.violations[0]
                assert violation.field.partition(".")[0] == option
                assert violation.value in (value, *(value if isinstance(value, list) else ()))
                assert allowed in violation.allowed, (option, value)
                assert violation.field in str(refusal.value)

    def test_the_same_limits_hold_for_a_native_request(self) -> None:
        paths = self.provider.models[self.model].options
        for option, cases in self.refused.items():
            for value, allowed in cases:
                if option not in paths:
                    continue
                body = orjson.loads(dump(self.body))
                _put(body, paths[option], value)
                with pytest.raises(InvalidRequest) as refusal:
                    self.provider.check(self.native(body))
                violation = refusal.value.violations[0]
                assert violation.field.startswith("request." + ".".join(paths[option]))
                assert allowed in violation.allowed, (option, value)

    def test_every_option_a_model_does_not_take_is_refused_with_those_it_takes(self) -> None:
        for name, model in self.provider.models.items():
            for option, value in {
                "images": ["https://e.example/a.png"],
                "aspect_ratio": "1:1",
                "resolution": "1K",
                "output_format": "png",
                "n": 2,
            }.items():
                if option in model.options:
                    continue
                with pytest.raises(InvalidRequest) as refusal:
                    self.provider.check(
                        JobRequest(self.name, name, options={"prompt": "A cat", option: value})
                    )
                [violation] = refusal.value.violations
                assert (violation.field, violation.value) == (option, value)
                assert self.provider.title in violation.allowed

    def test_one_image_is_what_every_task_makes_so_n_may_say_so(self) -> None:
        request = self.request(n=1)

        self.provider.check(request)

        assert "n" not in self.provider.body(request)

    def test_an_unknown_model_is_refused_with_those_there_are(self) -> None:
        with pytest.raises(InvalidRequest) as refusal:
            self.provider.check(JobRequest(self.name, "no-such", options={"prompt": "A cat"}))
        [violation] = refusal.value.violations
        assert (violation.field, violation.value) == ("model", "no-such")
        assert all(model in violation.allowed for model in self.provider.models)

    def test_a_native_request_may_not_bring_its_own_callback_nor_unknown_fields(self) -> None:
        for field in (self.callback_path[0], "no_such_field"):
            with pytest.raises(InvalidRequest) as refusal:
                self.provider.check(self.native({**self.body, field: CALLBACK_URL}))
            [violation] = refusal.value.violations
            assert violation.field == f"request.{field}"
            assert "a known field: " in violation.allowed

    def test_every_violation_is_named_at_once(self) -> None:
        with pytest.raises(InvalidRequest) as refusal:
            self.provider.check(self.request(prompt="", aspect_ratio="7:5", resolution="9K"))

        fields = {violation.field for violation in refusal.value.violations}
        assert fields == {"prompt", "aspect_ratio", "resolution"}


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _texts(inner)]
    return [value] if isinstance(value, str) else []


def _put(body: Any, path: tuple[str, ...], value: Any) -> None:
    for step in path[:-1]:
        body = body[step]
    body[path[-1]] = value
