"""The pictures behind the image links."""

import io

import pytest
from PIL import Image

from sandbox import pictures
from sandbox.pictures import LONGEST_SIDE, SHORTEST_SIDE, draw, picture
from tests.sandbox.kit import Client, links

RATIOS = ["1:1", "1:4", "1:8", "2:3", "3:2", "3:4", "4:1", "4:3", "4:5", "5:4", "8:1", "9:16"]
RATIOS += ["16:9", "21:9"]


@pytest.mark.parametrize("ratio", RATIOS)
def test_has_the_asked_ratio(ratio: str) -> None:
    across, down = map(int, ratio.split(":"))
    image = _decoded(draw(picture(ratio, "1K", "png"), "A red cube", "caption"))

    assert max(image.size) == LONGEST_SIDE["1K"] or min(image.size) == SHORTEST_SIDE
    assert min(image.size) >= SHORTEST_SIDE
    assert max(image.size) >= LONGEST_SIDE["1K"]
    assert abs(image.width / image.height - across / down) < 0.02 * across / down


def test_auto_is_a_square() -> None:
    assert picture("auto", "2K", "png") == picture("1:1", "2K", "png")


def test_is_larger_at_a_higher_resolution() -> None:
    sides = [picture("1:1", resolution, "png").width for resolution in ("0.5K", "1K", "2K", "4K")]

    assert sides == sorted(set(sides))
    assert sides[-1] == 1024


@pytest.mark.parametrize(
    ("extension", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("jpeg", "JPEG"), ("webp", "WEBP")]
)
def test_has_the_asked_format(extension: str, kind: str) -> None:
    assert _decoded(draw(picture("1:1", "1K", extension), "x", "y")).format == kind


@pytest.mark.parametrize(
    "prompt", ["", " ", "x" * 3000, "word " * 4000, "Würfel 立方体 🧊", "a\nb\0c"]
)
@pytest.mark.parametrize("ratio", ["1:1", "8:1", "1:8"])
def test_draws_any_prompt(prompt: str, ratio: str) -> None:
    _decoded(draw(picture(ratio, "1K", "png"), prompt, "caption " * 50))


def test_differs_by_what_is_no_longer_drawn() -> None:
    wanted, long = picture("1:1", "1K", "png"), "x" * 5000

    assert draw(wanted, long + "a", "x") != draw(wanted, long + "b", "x")


def test_a_caption_does_not_stay_on_the_next_picture() -> None:
    wanted = picture("1:1", "1K", "png")
    first = draw(wanted, "A red cube on a hill", "first")

    assert draw(wanted, "A red cube on a hill", "second, and longer") != first
    pictures._drawn.cache_clear()
    assert draw(wanted, "A red cube on a hill", "first") == first


def test_is_drawn_once_for_many_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = picture("1:1", "1K", "png")
    first = draw(wanted, "A red cube in a box", "x")
    monkeypatch.setattr(Image.Image, "save", None)

    assert draw(wanted, "A red cube in a box", "x") is first


def test_differs_from_prompt_to_prompt() -> None:
    wanted = picture("1:1", "1K", "png")

    assert draw(wanted, "A red cube", "x") == draw(wanted, "A red cube", "x")
    assert draw(wanted, "A red cube", "x") != draw(wanted, "A blue cube", "x")


@pytest.mark.parametrize(
    ("provider", "options", "kind", "size"),
    [
        ("hiapi", {"aspect_ratio": "16:9", "resolution": "2K"}, "png", (768, 432)),
        ("hiapi", {"output_format": "jpg"}, "jpeg", (512, 512)),
        ("evolink", {"size": "9:16", "quality": "4K"}, "png", (576, 1024)),
        ("evolink", {}, "png", (768, 768)),
    ],
)
def test_is_served_as_asked(
    client: Client, provider: str, options: dict[str, str], kind: str, size: tuple[int, int]
) -> None:
    (link,) = links(client.finished(provider, client.submitted(provider, **options)))
    # No API key: an image link works for whoever has it.
    answer = client.session.get(link, headers={"Authorization": None}, timeout=5)

    assert answer.headers["Content-Type"] == f"image/{kind}"
    image = _decoded(answer.content)
    assert (image.format, image.size) == (kind.upper(), size)


def test_exists_only_under_its_own_name(client: Client) -> None:
    done = client.submitted("hiapi")
    client.finished("hiapi", done)
    running = client.submitted("hiapi", "x [sandbox: slow=60]")
    failed = client.submitted("hiapi", "x [sandbox: fail]")
    client.finished("hiapi", failed)

    for name in (f"{done}-1.png", f"{done}-0.jpg", f"{done}-x.png", f"{done}", "x", "x-0.png"):
        assert client.get(f"/files/{name}").status_code == 404, name
    for task in (running, failed):
        assert client.get(f"/files/{task}-0.png").status_code == 404


def _decoded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image
