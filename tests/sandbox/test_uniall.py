"""UniAll, compared with its two pages, and the sandbox's own choices."""

import io
import json
import re
from typing import Any

import pytest
from PIL import Image

from sandbox.uniall import ASPECT_RATIOS, GPT_PRICES, NANO_PRICES, TIERS
from tests.sandbox.conftest import Start
from tests.sandbox.kit import PAYLOADS, MovableClock, SandboxClient, links

TASKS = "/uniall/v1/images/tasks"
DOCUMENTED = PAYLOADS / "uniall"
#: Ratio, orientation and tier of every documented size.
SIZES: dict[str, list[str]] = json.loads((DOCUMENTED / "sizes.json").read_text())
RATIOS = ["1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9"]
TEXT = ["nano_text", "nano_series_text", "gpt_text"]
IMAGE = ["nano_image", "nano_series_image", "gpt_image"]

_URL = "https://example.com/input.png"


def _nano(**changes: Any) -> dict[str, Any]:
    return {"model": "NanoBanana2-1K", "prompt": "A red cube", **changes}


def _gpt(**changes: Any) -> dict[str, Any]:
    return {"model": "gpt-image-2", "prompt": "A red cube", "size": "1024x1024", **changes}


# The examples of the documents


@pytest.mark.parametrize("name", TEXT + IMAGE)
def test_accepts_the_documented_request_byte_for_byte(client: SandboxClient, name: str) -> None:
    body = (DOCUMENTED / f"{name}.json").read_bytes()

    answer = client.post(TASKS, data=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 200
    assert re.fullmatch(r"task_[0-9a-f]{32}", answer.json()["task_id"])
    request, (task,) = json.loads(body), client.tasks()
    assert (task["prompt"], task["model"]) == (request["prompt"], request["model"])
    assert answer.json()["metadata"]["task_type"] == request["task_type"]


@pytest.mark.parametrize("name", TEXT)
def test_answers_and_shows_a_quick_task_as_documented(start: Start, name: str) -> None:
    client = start(task_seconds=0)
    answer = client.post(TASKS, data=(DOCUMENTED / f"{name}.json").read_bytes()).json()
    query = client.get(f"{TASKS}/{answer['task_id']}").json()

    for body, task, file in (
        (answer, answer, "submitted.json"),
        (query, query["data"], "queried.json"),
    ):
        assert task["result_url"].startswith(f"{client.url}/files/{task['task_id']}-0.")
        task |= {"task_id": "task_xxx", "result_url": "https://example.com/result.png"}
        assert json.dumps(body, indent=2) == (DOCUMENTED / file).read_text().strip()


# Models, options and prices


@pytest.mark.parametrize("model", NANO_PRICES)
def test_has_every_model_of_the_list(client: SandboxClient, model: str) -> None:
    client.submitted("uniall", model=model, n=3)

    (task,) = client.tasks()
    assert task["model"] == model
    assert task["charged"]["unit"] == "USD"
    assert task["charged"]["amount"] == pytest.approx(3 * NANO_PRICES[model])


def test_the_list_is_the_documented_one() -> None:
    assert list(NANO_PRICES) == [
        "NanoBanana",
        *(f"NanoBanana2-{tier}" for tier in ("0.5K", "1K", "2K", "4K")),
        *(f"NanoBananaPro-{tier}" for tier in ("1K", "2K", "4K", "8K")),
    ]


def test_has_the_documented_sizes_and_aspect_ratios() -> None:
    assert {size: row[2] for size, row in SIZES.items()} == TIERS
    assert list(ASPECT_RATIOS) == RATIOS


@pytest.mark.parametrize(
    ("size", "tier", "quality"),
    [
        ("1024x1024", "1K", "medium"),
        ("1920x1080", "2K", "medium"),
        ("2048x2048", "4K", "low"),
        ("2048x2048", "4K", "medium"),
        ("2048x2048", "4K", "high"),
    ],
)
def test_charges_gpt_image_2_by_size_quality_and_n(
    client: SandboxClient, size: str, tier: str, quality: str
) -> None:
    client.post(TASKS, json=_gpt(size=size, quality=quality, n=8))

    amount = client.tasks()[0]["charged"]["amount"]
    assert amount == pytest.approx(8 * GPT_PRICES[tier][quality])


def test_every_tier_and_quality_has_a_price_of_its_own() -> None:
    prices = [price for tier in GPT_PRICES.values() for price in tier.values()]

    assert all(sorted(tier.values()) == list(tier.values()) for tier in GPT_PRICES.values())
    assert min(prices + list(NANO_PRICES.values())) > 0


def test_accepts_what_the_pages_allow(client: SandboxClient) -> None:
    for body in [
        _nano(aspect_ratio="21:9"),
        *(_nano(output_format=kind) for kind in ("png", "jpeg")),
        *(_nano(model="NanoBanana", output_format=kind) for kind in ("png", "jpeg", "webp")),
        *(_gpt(output_format=kind) for kind in ("png", "jpeg", "webp")),
        _gpt(n=8),
        _nano(n=10),
        _nano(size="whatever"),
        _nano(images=[_URL, _URL]),
        _nano(image="http://127.0.0.1:9/a"),
        _nano(task_type="text2image"),
        _nano(response_format="url"),
        _nano(prompt="x" * 100_000),
    ]:
        assert client.post(TASKS, json=body).status_code == 200


def test_refuses_what_the_pages_do_not_allow(client: SandboxClient) -> None:
    for body, complaint in [
        ({"prompt": "x"}, "model: Missing"),
        (_nano(model=7), "model: Not a valid string"),
        (_nano(model=["NanoBanana"]), "model: Not a valid string"),
        ({"model": "NanoBanana"}, "prompt: Missing"),
        (_nano(prompt=""), "prompt: Shorter than minimum length 1"),
        (_nano(prompt=7), "prompt: Not a valid string"),
        (_nano(task_type="edit"), "task_type: Must be one of text2image, image2image."),
        (_nano(task_type="image2image"), "task_type: image2image takes an image"),
        (_nano(image=[_URL]), "image: Not a valid string"),
        (_nano(image="nowhere"), "image: Not a valid URL"),
        (_nano(image="file:///etc/passwd"), "image: Not a valid URL"),
        (_nano(images=_URL), "images: Not a valid list"),
        (_nano(images=[]), "images: Shorter than minimum length 1"),
        (_nano(images=[_URL, "nowhere"]), "images.1: Not a valid URL"),
        (_nano(image=_URL, images=[_URL]), "images: Give image or images, not both."),
        (_nano(aspect_ratio="auto"), "aspect_ratio: Must be one of 1:1, 2:3"),
        (_nano(size=1024), "size: Not a valid string"),
        (_nano(quality="low"), "quality: Not supported by this model"),
        (_nano(output_format="webp"), "output_format: Must be one of png, jpeg."),
        (_nano(model="NanoBanana", output_format="jpg"), "one of png, jpeg, webp."),
        (_nano(n=0), "n: Must be greater than or equal to 1"),
        (_nano(n=11), "less than or equal to 10"),
        (_nano(n="2"), "n: Not a valid integer"),
        (_nano(n=True), "n: Not a valid integer"),
        (_nano(n=1.0), "n: Not a valid integer"),
        (_nano(response_format="b64_json"), "response_format: Must be one of url."),
        ({"model": "gpt-image-2", "prompt": "x"}, "size: Missing"),
        (_gpt(size="1000x1000"), "size: Must be one of 1024x768"),
        (_gpt(aspect_ratio="1:1"), "aspect_ratio: Not supported by this model: use size."),
        (_gpt(quality="auto"), "quality: Must be one of low, medium, high."),
        (_gpt(output_format="jpg"), "output_format: Must be one of png, jpeg, webp."),
        (_gpt(n=9), "less than or equal to 8"),
        (_gpt(n=0), "n: Must be greater"),
        (_nano(image_url=_URL), "image_url: Unknown field"),
        (_gpt(image_url=_URL), "image_url: Unknown field"),
        (_nano(callback_url="https://example.com/cb"), "callback_url: Unknown field"),
    ]:
        answer = client.post(TASKS, data=json.dumps(body))

        assert answer.status_code == 400
        assert list(answer.json()) == ["code", "message", "data"]
        assert (answer.json()["code"], answer.json()["data"]) == ("invalid_request", None)
        assert complaint in answer.json()["message"]
        assert client.tasks() == []


@pytest.mark.parametrize("model", ["NanoBanana-2", ""])
def test_names_its_models_when_it_refuses_another(client: SandboxClient, model: str) -> None:
    answer = client.post(TASKS, json=_nano(model=model))

    assert answer.status_code == 400
    assert answer.json()["code"] == "model_not_enabled"
    assert "NanoBanana2-0.5K" in answer.json()["message"]
    assert "gpt-image-2" in answer.json()["message"]


# Reference images


@pytest.mark.parametrize(
    ("fields", "task_type"),
    [
        ({}, "text2image"),
        ({"image": _URL}, "image2image"),
        ({"images": [_URL]}, "image2image"),
        ({"image": _URL, "task_type": "image2image"}, "image2image"),
        ({"image": _URL, "task_type": "text2image"}, "text2image"),
        ({"images": [_URL], "task_type": "text2image"}, "text2image"),
    ],
)
def test_infers_a_missing_task_type(
    client: SandboxClient, fields: dict[str, Any], task_type: str
) -> None:
    answer = client.post(TASKS, json=_nano(**fields))

    assert answer.json()["metadata"]["task_type"] == task_type


# The life of a task


def test_has_its_states_in_order(client: SandboxClient, clock: MovableClock) -> None:
    task = client.submitted("uniall", "A red cube [sandbox: slow=10000]")
    views = []
    for clock.ahead in (0, 5000, 15_000):
        views.append(client.query("uniall", task))

    assert [view["status"] for view in views] == ["queued", "processing", "processing"]
    assert [view["progress"] for view in views] == ["0%", "50%", "50%"]
    for view in views:
        assert (view["result_url"], view["error"]) == (None, None)
        assert view["metadata"] == {"task_type": "text2image", "result_count": 0}


def test_answers_a_submission_with_the_present_task(client: SandboxClient) -> None:
    answer = client.submit("uniall", "A red cube [sandbox: slow=3600]").json()

    assert answer == client.query("uniall", answer["task_id"])
    assert (answer["status"], answer["progress"]) == ("queued", "0%")


@pytest.mark.parametrize("fault", ["early, slow=60", "slow=0"])
def test_can_have_succeeded_when_it_answers(client: SandboxClient, fault: str) -> None:
    answer = client.submit("uniall", f"A red cube [sandbox: {fault}]").json()

    assert (answer["status"], answer["progress"]) == ("succeeded", "100%")
    assert client.fetch(answer["result_url"]).status_code == 200
    assert answer == client.query("uniall", answer["task_id"])


def test_can_have_failed_when_it_answers(client: SandboxClient) -> None:
    answer = client.submit("uniall", "A red cube [sandbox: fail=bad_prompt, early]").json()

    assert (answer["status"], answer["progress"]) == ("failed", "100%")
    assert answer["error"]["code"] == "bad_prompt"


def test_shows_a_failure_with_its_error(client: SandboxClient) -> None:
    view = client.run("uniall", "x [sandbox: fail]", n=2)

    assert view["status"] == "failed"
    assert view["result_url"] is None
    assert view["metadata"] == {"task_type": "text2image", "result_count": 0, "result_urls": []}
    assert view["error"]["code"] == "content_policy_violation"
    assert view["error"]["message"]


def test_shows_several_results(client: SandboxClient) -> None:
    view = client.run("uniall", n=3)
    urls = view["metadata"]["result_urls"]

    assert view["metadata"]["result_count"] == len(set(urls)) == 3
    assert view["result_url"] == urls[0]
    assert len({client.fetch(url).content for url in urls}) == 3


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (402, "insufficient_balance"),
        (429, "rate_limited"),
        (500, "internal_error"),
        (503, "service_unavailable"),
    ],
)
def test_refuses_in_its_own_envelope(client: SandboxClient, status: int, code: str) -> None:
    answer = client.submit("uniall", f"x [sandbox: {status}]")

    assert answer.status_code == status
    assert (answer.json()["code"], answer.json()["data"]) == (code, None)
    assert answer.json()["message"]


def test_a_missing_key_and_an_unknown_task_have_codes(
    client: SandboxClient,
) -> None:
    path = "/uniall/v1/images/tasks/unknown"
    unauthorized = client.get(path, headers={"Authorization": None})
    unknown = client.get(path)

    assert (unauthorized.status_code, unknown.status_code) == (401, 404)
    message = "The API key is missing or wrong."
    assert unauthorized.json() == {"code": "unauthorized", "message": message, "data": None}
    assert unknown.json()["code"] == "task_not_found"


# What it has in common with the others


def test_counts_the_requests_of_each_link(client: SandboxClient) -> None:
    first, second = links(client.run("uniall", "x [sandbox: image=503*1]", n=2))
    statuses = [client.fetch(link).status_code for link in (first, first, second, second)]

    assert statuses == [503, 200, 503, 200]
    assert client.tasks()[0]["image_asks"] == [2, 2]


def test_a_thin_success_has_no_link_of_several(client: SandboxClient) -> None:
    assert links(client.run("uniall", "x [sandbox: thin_success=both]", n=2)) == []


def test_a_provider_without_keys_ignores_them(client: SandboxClient) -> None:
    headers = {"Idempotency-Key": "a", "X-Request-ID": "a"}

    assert len({client.submitted("uniall", headers=headers) for _ in range(2)}) == 2


@pytest.mark.parametrize(
    ("options", "kind", "size"),
    [
        ({"model": "NanoBanana", "output_format": "webp"}, "webp", (512, 512)),
        ({"model": "NanoBanana2-0.5K"}, "png", (384, 384)),
        ({"model": "NanoBanana2-2K", "aspect_ratio": "16:9"}, "png", (768, 432)),
        ({"model": "NanoBananaPro-8K", "output_format": "jpeg"}, "jpeg", (1024, 1024)),
        ({"model": "gpt-image-2", "size": "864x2016"}, "png", (256, 597)),
        ({"model": "gpt-image-2", "size": "3840x2160"}, "png", (1024, 576)),
        ({"aspect_ratio": "16:9", "size": "864x2016"}, "png", (512, 288)),
    ],
)
def test_a_link_serves_the_requested_image(
    client: SandboxClient, options: dict[str, str], kind: str, size: tuple[int, int]
) -> None:
    (link,) = links(client.run("uniall", **options))
    answer = client.fetch(link)

    assert answer.headers["Content-Type"] == f"image/{kind}"
    image = Image.open(io.BytesIO(answer.content))
    assert (image.format, image.size) == (kind.upper(), size)
