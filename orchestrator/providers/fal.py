"""fal: a queue for the models of many makers, with callbacks that are signed by Ed25519 keys.

Source: fal's public documents. docs/providers/fal.md lists them with their addresses, and says
which fact comes from which, and which decision is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

from orchestrator.providers.api import (
    Accepted,
    AnyBody,
    Call,
    Capabilities,
    ErrorCode,
    Family,
    JobError,
    Model,
    Provider,
    QueryFailed,
    Reply,
    Secret,
    States,
    Status,
    StrictSchema,
    TaskNotFound,
    TaskReport,
    callback_refusal,
    check_time,
    document_error,
    links,
    number,
    switch,
    task_id,
    task_object,
    text,
    typed_error,
    verify_ed25519,
    whole,
)

_JWKS = "https://rest.fal.ai/.well-known/jwks.json"
_ENDS = {"OK": Status.SUCCEEDED, "ERROR": Status.FAILED}
#: Our code, and whether the error may pass -> fal's types of errors.
_TYPES = {
    (ErrorCode.PROVIDER_UNAVAILABLE, True): "internal_server_error internal_error"
    " downstream_service_error downstream_service_unavailable runner_scheduling_failure"
    " runner_connection_timeout runner_connection_refused runner_connection_error"
    " runner_disconnected runner_incomplete_response runner_server_error",
    (ErrorCode.TIMEOUT, True): "generation_timeout request_timeout startup_timeout",
    (ErrorCode.INVALID_REQUEST, False): "bad_request image_too_small image_load_error"
    " file_download_error",
    (ErrorCode.TOO_LARGE, False): "image_too_large file_too_large",
    (ErrorCode.CONTENT_POLICY, False): "content_policy_violation",
    (ErrorCode.GENERATION_FAILED, False): "no_media_generated",
    (ErrorCode.CANCELLED, False): "client_cancelled",
}
ERROR_CODES = {name: code for code, names in _TYPES.items() for name in names.split()}
#: Our ratios -> the named sizes of the flux models.
SIZES = {"1:1": "square_hd", "4:3": "landscape_4_3", "3:4": "portrait_4_3"}
SIZES |= {"16:9": "landscape_16_9", "9:16": "portrait_16_9"}
_PLACES = {"n": "num_images", **{o: o for o in ("prompt", "output_format", "aspect_ratio")}}
_PLACES_2, _BY_SIZE = {**_PLACES, "resolution": "resolution"}, {("resolution",): "1K"}
_RATIOS = ("21:9", "16:9", "3:2", "4:3", "5:4", "1:1", "4:5", "3:4", "2:3", "9:16")


class _Request(StrictSchema):
    model, prompt = text(required=True), text(required=True)
    num_images, seed, sync_mode = whole(1, 4), whole(0), switch()


class _Flux(_Request):
    image_size = text(one_of=("square", *SIZES.values()))
    num_inference_steps, guidance_scale = whole(1, 50), number(1, 20)
    output_format, enable_safety_checker = text(one_of=("jpeg", "png")), switch()
    acceleration = text(one_of=("none", "regular", "high"))


class _Banana(_Request):
    aspect_ratio, output_format = text(one_of=_RATIOS), text(one_of=("jpeg", "png", "webp"))
    safety_tolerance, limit_generations = text(one_of=(*"123456",)), switch()


class _Banana2(_Banana):
    aspect_ratio = text(one_of=("auto", *_RATIOS))
    resolution, enable_web_search = text(one_of=("0.5K", "1K", "2K", "4K")), switch()


class _Banana2Edit(_Banana2):
    image_urls = links(minimum=1)


def _model(schema: StrictSchema, places: Mapping[str, str] = _PLACES, **more: Any) -> Model:
    spellings = {"output_format": {"jpg": "jpeg"}, **more.pop("spellings", {})}
    return Model(schema, {o: (place,) for o, place in places.items()}, spellings=spellings, **more)


_SIZED = {"spellings": {"aspect_ratio": SIZES}, "values": {"aspect_ratio": tuple(SIZES)}}
_FLUX = _model(_Flux(), {**_PLACES, "aspect_ratio": "image_size"}, **_SIZED)


class Fal(Provider):
    """fal's API of its queue."""

    name = "fal"
    title = "fal"
    base_url = "https://queue.fal.run"
    capabilities = Capabilities(callbacks=True, jwks_url=_JWKS, links_live_seconds=7 * 86_400)
    models: ClassVar[Mapping[str, Model]] = {
        "fal-ai/flux/schnell": _FLUX,
        "fal-ai/flux/dev": _FLUX,
        "fal-ai/nano-banana": _model(_Banana()),
        "fal-ai/nano-banana-2": _model(_Banana2(), _PLACES_2, priced_by=_BY_SIZE),
        "fal-ai/nano-banana-2/edit": _model(
            _Banana2Edit(), {**_PLACES_2, "images": "image_urls"}, priced_by=_BY_SIZE
        ),
    }
    families: ClassVar[Mapping[str, Family]] = {
        name: Family(f"fal-ai/{name}") for name in ("nano-banana", "nano-banana-2")
    }
    unlisted = Model(AnyBody(), {})
    callback_fields = frozenset({"fal_webhook"})
    states: ClassVar[States] = {**dict.fromkeys(("IN_QUEUE", "IN_PROGRESS")), **_ENDS}
    results = ("payload.images", "payload.image", "payload")
    #: Types such as `runner_disconnected` come with 503 after a request was begun.
    named_503_is_refusal = False

    def authorize(self, call: Call, api_key: Secret) -> Call:
        """Send the key with the scheme `Key`."""
        return replace(call, headers={"Authorization": f"Key {api_key.reveal()}", **call.headers})

    def callback_refusal(self, url: str) -> str | None:
        """Accept an HTTPS URL."""
        return callback_refusal(url)

    def submit_call(self, body: dict[str, Any], callback_url: str | None, key: str) -> Call:
        """Put the model into the path, and the callback URL into the query."""
        sent = {name: value for name, value in body.items() if name != "model"}
        query = "?" + urlencode({"fal_webhook": callback_url}) if callback_url else ""
        return Call("POST", f"/{quote(body['model'])}{query}", {}, sent)

    def query_call(self, task_id: str) -> Call:
        """Query a task of the first model. `model_query_call` is used, because it names its own."""
        return self.model_query_call(task_id, next(iter(self.models)))

    def model_query_call(self, task_id: str, model: str) -> Call:
        """Query the status, which has no result. The address has owner and app of the model."""
        return Call("GET", f"{_address(task_id, model)}/status")

    def result_call(self, task_id: str, model: str, reply: Reply) -> Call | None:
        """Get the result of a request that is completed."""
        ended = reply.status // 100 == 2 and (reply.object() or {}).get("status") == "COMPLETED"
        return Call("GET", _address(task_id, model)) if ended else None

    def read_result(
        self, task_id: str, reply: Reply, now: int
    ) -> TaskReport | TaskNotFound | QueryFailed:
        """Read the model's output or error. Other answers are those of a query."""
        output, made = reply.object(), reply.status // 100 == 2
        if output is None or not (made or reply.status in (400, 422) or typed_error(output)):
            return self.read_query(reply, now)
        status = "OK" if made else "ERROR"
        return self.read_task({"request_id": task_id, "status": status, "payload": output}, now)

    def read_accepted(self, document: dict[str, Any]) -> Accepted:
        """Read the `request_id`."""
        return Accepted(task_id(document.get("request_id")))

    def read_error(self, status: int, document: dict[str, Any]) -> JobError | None:
        """Read `{detail: [{type, msg, loc}]}`, `{detail, error_type}`, or a `detail` alone."""
        typed = typed_error(document)
        shown = {**document, "error": typed} if typed else document
        return document_error(status, shown, ERROR_CODES)

    def read_task(self, document: Any, now: int) -> TaskReport:
        """Read `{request_id, status, payload, error, payload_error}` of a callback."""
        task = task_object(document)
        error = typed_error(task.get("payload")) or task.get("error") or task.get("payload_error")
        return self.report(
            task, task.get("request_id"), task.get("status"), now, error=error, codes=ERROR_CODES
        )

    def verify_callback_by_keys(
        self, headers: Mapping[str, str], body: bytes, keys: Sequence[bytes], now: int
    ) -> None:
        """Check X-Fal-Webhook-Signature over request, user, time and the body's SHA-256."""
        names = ("request-id", "user-id", "timestamp")
        request, user, time = (headers.get(f"x-fal-webhook-{name}") or "" for name in names)
        check_time(time, now // 1000)
        message = "\n".join((request, user, time, sha256(body).hexdigest()))
        signature = headers.get("x-fal-webhook-signature")
        verify_ed25519(keys, message=message.encode("latin-1", "replace"), signature=signature)


def _address(task_id: str, model: str) -> str:
    owner_and_app = "/".join(model.split("/")[:2])
    return f"/{quote(owner_and_app)}/requests/{quote(task_id, safe='')}"
