"""The fault `image`: what a client receives from a link that fails."""

import gzip
import http.client
import io
import time
import zlib
from urllib.parse import urlsplit

import pytest
import requests
from PIL import Image

from sandbox import broken_images
from sandbox.broken_images import ANSWERS
from sandbox.link_faults import LINK_KINDS
from sandbox.server import Sandbox
from sandbox.settings import SandboxSettings
from tests.sandbox.kit import (
    KEY,
    TIMEOUT_SECONDS,
    MovableClock,
    SandboxClient,
    connection_threads,
    links,
    wait_until,
)


def _links(client: SandboxClient, fault: str, provider: str, **options: object) -> list[str]:
    prompt = f"x [sandbox: image={fault}]" if fault else "x"
    return links(client.run(provider, prompt, **options))


def _link(client: SandboxClient, fault: str) -> str:
    (link,) = _links(client, fault, "evolink")
    return link


def _get(client: SandboxClient, fault: str) -> requests.Response:
    return client.fetch(_link(client, fault), allow_redirects=False)


def _connect(link: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    parts = urlsplit(link)
    host, port = parts.hostname or "", parts.port
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    connection.request("GET", f"{parts.path}?{parts.query}")
    return connection, connection.getresponse()


def _is_image(answer: requests.Response) -> bool:
    if answer.status_code != 200:
        return False
    image = Image.open(io.BytesIO(answer.content))
    image.load()
    return min(image.size) >= 256


def test_every_kind_has_an_answer() -> None:
    assert list(ANSWERS) == list(LINK_KINDS)


def test_a_rule_sets_it_too(client: SandboxClient) -> None:
    rule = {"match": "x", "faults": {"image": "503/7s*1"}}
    client.post("/control/faults", json=rule)
    link = _link(client, "")
    answers = [client.fetch(link) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [503, 200]
    assert client.tasks()[0]["faults"] == {"image": "503/7s*1"}


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [("404", 404, "NoSuchKey"), ("403", 403, "AccessDenied"), ("503", 503, "SlowDown")],
)
def test_answers_in_the_form_of_s3(
    client: SandboxClient, fault: str, status: int, code: str
) -> None:
    answer = _get(client, fault)

    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/xml"
    assert f"<Code>{code}</Code>" in answer.text
    assert "Retry-After" not in answer.headers


def test_410_has_an_empty_body(client: SandboxClient) -> None:
    answer = _get(client, "410")

    assert (answer.status_code, answer.content) == (410, b"")


def test_503_has_a_retry_after(client: SandboxClient) -> None:
    assert _get(client, "503/1500ms").headers["Retry-After"] == "2"


@pytest.mark.parametrize("fault", ["503*2", "cut*2", "redirect_private*2"])
def test_works_after_a_number_of_requests(client: SandboxClient, fault: str) -> None:
    link = _link(client, fault)
    works = []
    for _ in range(4):
        try:
            works.append(_is_image(client.fetch(link, allow_redirects=False)))
        except (requests.RequestException, OSError):
            works.append(False)

    assert works == [False, False, True, True]


def test_head_gets_the_same_answer_and_is_not_counted(client: SandboxClient) -> None:
    link = _link(client, "503*1")
    answers = [client.fetch(link, method) for method in ("HEAD", "GET", "HEAD")]

    assert [answer.status_code for answer in answers] == [503, 503, 200]
    assert client.tasks()[0]["image_asks"] == [1]


def test_json_is_an_error_with_status_200(client: SandboxClient) -> None:
    answer = _get(client, "json")

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json()["error"]["code"] == "not_ready"


def test_html_is_a_page_with_status_200(client: SandboxClient) -> None:
    answer = _get(client, "html")

    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")


def test_pixel_is_an_image_of_one_pixel(client: SandboxClient) -> None:
    answer = _get(client, "pixel")
    image = Image.open(io.BytesIO(answer.content))
    image.load()

    assert answer.headers["Content-Type"] == "image/png"
    assert (image.format, image.size) == ("PNG", (1, 1))


def test_cut_ends_before_its_length(client: SandboxClient) -> None:
    connection, answer = _connect(_link(client, "cut"))
    with pytest.raises(http.client.IncompleteRead) as cut:
        answer.read()

    read, missing = len(cut.value.partial), cut.value.expected or 0
    assert int(answer.headers["Content-Length"]) == read + missing
    assert abs(read - missing) <= 1
    assert cut.value.partial.startswith(b"\x89PNG")
    connection.close()


def test_short_is_half_of_the_image_with_its_length(client: SandboxClient) -> None:
    link = _link(client, "short*1")
    half, whole = (client.fetch(link).content for _ in range(2))

    assert half == whole[: len(whole) // 2]


def test_small_length_sends_more_than_its_length(client: SandboxClient) -> None:
    link = _link(client, "small_length*1")
    connection, answer = _connect(link)
    half = answer.read()
    assert connection.sock is not None
    rest = connection.sock.recv(1 + len(half))
    connection.close()

    assert answer.headers.get("Connection") is None
    assert len(half) == int(answer.headers["Content-Length"])
    whole = client.fetch(link).content
    assert whole.startswith(half)
    # http.client has read the first bytes of the rest into its own buffer.
    assert rest
    assert rest in whole[len(half) :]


def test_slow_sends_the_image_in_pieces(client: SandboxClient) -> None:
    connection, answer = _connect(_link(client, "slow/60m"))
    length = int(answer.headers["Content-Length"])
    first = answer.read1()
    connection.close()

    assert 0 < len(first) < length / 2


def test_slow_sends_the_whole_image(client: SandboxClient) -> None:
    link, before = _link(client, "slow/200ms"), time.monotonic()
    answer = client.fetch(link)

    assert time.monotonic() - before >= 0.2
    assert _is_image(answer)


def test_endless_has_no_length(client: SandboxClient) -> None:
    connection, answer = _connect(_link(client, "endless"))
    data = answer.read(3 * 1024 * 1024)
    connection.close()

    assert "Content-Length" not in answer.headers
    assert answer.headers["Connection"] == "close"
    assert data.startswith(b"\x89PNG")
    assert len(data) == 3 * 1024 * 1024
    assert not any(data[-1024:])


def test_endless_has_a_limit(client: SandboxClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broken_images, "ENDLESS_BYTES", 1024 * 1024)

    assert 900_000 < len(_get(client, "endless").content) <= 1024 * 1024


def test_gzip_bomb_is_small_until_it_is_unpacked(client: SandboxClient) -> None:
    link = _link(client, "gzip_bomb")
    connection, answer = _connect(link)
    packed = answer.read()
    connection.close()
    whole = client.fetch(link, stream=True)
    start = next(whole.iter_content(1024))
    whole.close()

    assert answer.headers["Content-Encoding"] == "gzip"
    assert len(packed) < 2 * 1024 * 1024
    assert start.startswith(b"\x89PNG")
    # The image is the first member. 64 equal members of zeros follow.
    image = zlib.decompressobj(wbits=31)
    image.decompress(packed)
    member = image.unused_data[: len(image.unused_data) // 64]
    assert image.unused_data == member * 64
    assert len(gzip.decompress(member)) * 64 == 2**30


def test_pixel_bomb_claims_more_pixels_than_it_has(client: SandboxClient) -> None:
    answer = _get(client, "pixel_bomb")

    assert len(answer.content) < 10_000
    header = answer.content[16:24]
    assert [int.from_bytes(header[:4]), int.from_bytes(header[4:])] == [50_000, 50_000]


def test_redirect_leads_to_the_image(client: SandboxClient) -> None:
    answer = client.fetch(_link(client, "redirect"))

    assert _is_image(answer)
    assert [hop.status_code for hop in answer.history] == [302]
    assert client.tasks()[0]["image_asks"] == [1]


def test_redirect_loop_never_ends(client: SandboxClient) -> None:
    with pytest.raises(requests.TooManyRedirects):
        client.fetch(_link(client, "redirect_loop"))


def test_redirect_private_leads_to_the_metadata_service(client: SandboxClient) -> None:
    answer = _get(client, "redirect_private")

    assert answer.status_code == 302
    assert answer.headers["Location"] == "http://169.254.169.254/latest/meta-data/"


def test_an_expired_link_does_not_exist(client: SandboxClient, clock: MovableClock) -> None:
    view = client.run("hiapi", "x [sandbox: expire_links=5, image=slow]")
    (link,) = links(view)
    clock.ahead = 6
    answer = client.fetch(link)

    assert answer.status_code == 404
    assert "<Code>NoSuchKey</Code>" in answer.text
    assert view["output"][0]["expireAt"] == view["completed"] + 5


@pytest.mark.parametrize("fault", ["slow", "endless"])
def test_ends_when_the_client_disconnects(
    client: SandboxClient, capfd: pytest.CaptureFixture[str], fault: str
) -> None:
    link, before = _link(client, fault), connection_threads()
    connection, answer = _connect(link)
    answer.read1(100)
    assert connection_threads() - before
    answer.close()
    connection.close()

    wait_until(lambda: not connection_threads() - before)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("fault", ["slow", "endless"])
def test_ends_when_the_sandbox_stops(fault: str) -> None:
    before = connection_threads()
    settings = SandboxSettings(port=0, api_key=KEY, task_seconds=0, allow_http=True)
    with Sandbox(settings) as sandbox:
        client = SandboxClient(sandbox.url)
        connection, answer = _connect(_link(client, fault))
        client.session.close()
        answer.read1(100)

    wait_until(lambda: not connection_threads() - before)
    answer.close()
    connection.close()
