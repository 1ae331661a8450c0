"""The images behind the image links."""

import io

import pytest
from PIL import Image

from sandbox import pictures
from sandbox.pictures import LONG_SIDE_PIXELS, MIN_SIDE_PIXELS, draw, picture
from tests.sandbox.kit import SandboxClient, links
from tests.support.cases import for_each

RATIOS = ["1:1", "1:4", "1:8", "2:3", "3:2", "3:4", "4:1", "4:3", "4:5", "5:4", "8:1", "9:16"]
RATIOS += ["16:9", "21:9"]
SQUARE = picture("1:1", "1K", "png")


def _decoded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def test_has_the_requested_ratio() -> None:
    for ratio in RATIOS:
        across, down = map(int, ratio.split(":"))
        spec = picture(ratio, "1K", "png")
        sides = (spec.width, spec.height)

        assert max(sides) == LONG_SIDE_PIXELS["1K"] or min(sides) == MIN_SIDE_PIXELS
        assert min(sides) >= MIN_SIDE_PIXELS
        assert max(sides) >= LONG_SIDE_PIXELS["1K"]
        assert abs(spec.width / spec.height - across / down) < 0.02 * across / down


def test_auto_is_a_square() -> None:
    assert picture("auto", "2K", "png") == picture("1:1", "2K", "png")


def test_is_larger_at_a_higher_resolution() -> None:
    sides = [picture("1:1", resolution, "png").width for resolution in ("0.5K", "1K", "2K", "4K")]

    assert sides == sorted(set(sides))
    assert sides[-1] == 1024


@pytest.mark.parametrize(
    ("extension", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("jpeg", "JPEG"), ("webp", "WEBP")]
)
def test_has_the_requested_format(extension: str, kind: str) -> None:
    spec = picture("8:1", "1K", extension)
    image = _decoded(draw(spec, "x", "y"))

    assert (image.format, image.size) == (kind, (spec.width, spec.height))


@for_each(
    ("prompt", "ratio"),
    [
        ("", "1:1"),
        (" ", "1:1"),
        ("x" * 3000, "1:1"),
        ("word " * 4000, "1:1"),
        ("word " * 4000, "1:8"),
        ("Würfel 立方体 🧊", "1:1"),
        ("a\nb\0c", "1:1"),
    ],
)
def test_draws_any_prompt(prompt: str, ratio: str) -> None:
    _decoded(draw(picture(ratio, "1K", "png"), prompt, "caption " * 50))


def test_differs_by_the_end_of_a_long_prompt() -> None:
    assert draw(SQUARE, "x" * 5000 + "a", "x") != draw(SQUARE, "x" * 5000 + "b", "x")


def test_shows_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    with_prompt = draw(SQUARE, "A red cube on a table", "x")
    monkeypatch.setattr(pictures, "_MAX_DRAWN_CHARS", 0)

    assert draw(SQUARE, "A red cube on a table", "x") != with_prompt


def test_a_caption_is_not_on_the_next_image() -> None:
    first = draw(SQUARE, "A red cube on a hill", "first")

    assert draw(SQUARE, "A red cube on a hill", "second, and longer") != first
    pictures._drawn.cache_clear()
    assert draw(SQUARE, "A red cube on a hill", "first") == first


def test_is_drawn_once_for_many_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    first = draw(SQUARE, "A red cube in a box", "x")
    monkeypatch.setattr(Image.Image, "save", None)

    assert draw(SQUARE, "A red cube in a box", "x") is first


def test_differs_by_prompt() -> None:
    assert draw(SQUARE, "A red cube", "x") != draw(SQUARE, "A blue cube", "x")


@pytest.mark.parametrize(
    ("provider", "options", "kind", "size"),
    [
        ("hiapi", {"aspect_ratio": "16:9", "resolution": "2K"}, "png", (768, 432)),
        ("hiapi", {"output_format": "jpg"}, "jpeg", (512, 512)),
        ("evolink", {"size": "9:16", "quality": "4K"}, "png", (576, 1024)),
        ("evolink", {}, "png", (768, 768)),
    ],
)
def test_a_link_serves_the_requested_image(
    client: SandboxClient, provider: str, options: dict[str, str], kind: str, size: tuple[int, int]
) -> None:
    (link,) = links(client.run(provider, **options))
    answer = client.fetch(link, headers={"Authorization": None})

    assert answer.headers["Content-Type"] == f"image/{kind}"
    image = _decoded(answer.content)
    assert (image.format, image.size) == (kind.upper(), size)


def test_a_link_exists_only_for_an_image(client: SandboxClient) -> None:
    succeeded = client.submitted("hiapi")
    client.finished("hiapi", succeeded)
    running = client.submitted("hiapi", "x [sandbox: slow=3600]")
    failed = client.submitted("hiapi", "x [sandbox: fail]")
    client.finished("hiapi", failed)

    names = [f"{succeeded}-1.png", f"{succeeded}-0.jpg", f"{succeeded}-x.png", succeeded]
    for name in (*names, "x", "x-0.png", f"{running}-0.png", f"{failed}-0.png"):
        assert client.get(f"/files/{name}").status_code == 404, name
