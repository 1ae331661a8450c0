"""The fault `image`: what an image link does wrong, as a client that fetches it sees it."""

import gzip
import http.client
import io
import threading
import zlib
from urllib.parse import urlsplit

import pytest
import requests
from PIL import Image

from sandbox import broken_images
from sandbox.broken_images import ANSWERS
from sandbox.link_faults import LINK_KINDS
from sandbox.server import Sandbox
from sandbox.settings import Settings
from tests.sandbox.kit import KEY, Client, Clock, links, wait_until


def _link(client: Client, fault: str, provider: str = "evolink") -> str:
    (link,) = _links(client, fault, provider)
    return link


def _links(client: Client, fault: str, provider: str = "evolink", **options: object) -> list[str]:
    prompt = f"x [sandbox: image={fault}]" if fault else "x"
    return links(client.finished(provider, client.submitted(provider, prompt, **options)))


def _get(client: Client, fault: str) -> requests.Response:
    return client.session.get(_link(client, fault), timeout=10, allow_redirects=False)


def _raw(
    link: str, method: str = "GET"
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    parts = urlsplit(link)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    connection.request(method, f"{parts.path}?{parts.query}")
    return connection, connection.getresponse()


def _good(answer: requests.Response) -> bool:
    if answer.status_code != 200:
        return False
    image = Image.open(io.BytesIO(answer.content))
    image.load()
    return min(image.size) >= 256


def test_every_kind_has_an_answer() -> None:
    assert list(ANSWERS) == list(LINK_KINDS)


@pytest.mark.parametrize("number", ["hiapi", "evolink", "uniall", "aigptimage"])
def test_breaks_the_links_of_every_provider(client: Client, number: str) -> None:
    answer = client.session.get(_link(client, "404", number), timeout=5)

    assert answer.status_code == 404


def test_a_rule_asks_for_it_too(client: Client) -> None:
    rule = {"match": "x", "faults": {"image": "503/7s*1"}}
    client.post("/control/faults", json=rule)
    link = _link(client, "")
    answers = [client.session.get(link, timeout=5) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [503, 200]
    assert client.tasks()[0]["faults"] == {"image": "503/7s*1"}


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [("404", 404, "NoSuchKey"), ("403", 403, "AccessDenied"), ("503", 503, "SlowDown")],
)
def test_refuses_as_s3_does(client: Client, fault: str, status: int, code: str) -> None:
    answer = _get(client, fault)

    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/xml"
    assert f"<Code>{code}</Code>" in answer.text
    assert "Retry-After" not in answer.headers


def test_410_says_nothing(client: Client) -> None:
    answer = _get(client, "410")

    assert (answer.status_code, answer.content) == (410, b"")


@pytest.mark.parametrize(("fault", "seconds"), [("503/7s", "7"), ("503/1500ms", "2")])
def test_503_says_when_to_come_back(client: Client, fault: str, seconds: str) -> None:
    assert _get(client, fault).headers["Retry-After"] == seconds


@pytest.mark.parametrize("fault", ["503*2", "404*2", "html*2", "cut*2", "redirect_private*2"])
def test_works_after_so_many_requests(client: Client, fault: str) -> None:
    link = _link(client, fault)
    good = []
    for _ in range(4):
        try:
            good.append(_good(client.session.get(link, timeout=5, allow_redirects=False)))
        except (requests.RequestException, OSError):
            good.append(False)

    assert good == [False, False, True, True]


def test_counts_each_link_for_itself(client: Client) -> None:
    first, second = _links(client, "503*1", "uniall", n=2)
    order = [first, first, second, second]
    statuses = [client.session.get(link, timeout=5).status_code for link in order]

    assert statuses == [503, 200, 503, 200]
    assert client.tasks()[0]["image_asks"] == [2, 2]


def test_head_sees_what_get_would_and_is_not_counted(client: Client) -> None:
    link = _link(client, "503*1")
    asked = [client.session.request(method, link, timeout=5) for method in ("HEAD", "GET", "HEAD")]

    assert [answer.status_code for answer in asked] == [503, 503, 200]
    assert client.tasks()[0]["image_asks"] == [1]


def test_links_are_the_same_in_every_answer(client: Client) -> None:
    task = client.submitted("evolink", "x [sandbox: image=redirect]")
    first = links(client.finished("evolink", task))

    assert links(client.query("evolink", task)) == first


def test_json_is_no_image(client: Client) -> None:
    answer = _get(client, "json")

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json()["error"]["code"] == "not_ready"


def test_html_is_no_image(client: Client) -> None:
    answer = _get(client, "html")

    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")


def test_pixel_is_an_image_of_one_pixel(client: Client) -> None:
    answer = _get(client, "pixel")
    image = Image.open(io.BytesIO(answer.content))
    image.load()

    assert answer.headers["Content-Type"] == "image/png"
    assert (image.format, image.size) == ("PNG", (1, 1))


def test_cut_ends_before_its_length(client: Client) -> None:
    connection, answer = _raw(_link(client, "cut"))
    with pytest.raises(http.client.IncompleteRead) as cut:
        answer.read()

    got, missing = len(cut.value.partial), cut.value.expected or 0
    assert int(answer.headers["Content-Length"]) == got + missing
    assert abs(got - missing) <= 1
    assert cut.value.partial.startswith(b"\x89PNG")
    connection.close()


def test_short_is_half_an_image_of_the_right_length(client: Client) -> None:
    link = _link(client, "short*1")
    half, whole = (client.session.get(link, timeout=5).content for _ in range(2))

    assert half == whole[: len(whole) // 2]


def test_small_length_leaves_the_rest_on_the_connection(client: Client) -> None:
    link = _link(client, "small_length*1")
    connection, answer = _raw(link)
    half = answer.read()
    assert connection.sock is not None
    rest = connection.sock.recv(1 + len(half))
    connection.close()

    assert answer.headers.get("Connection") is None
    assert len(half) == int(answer.headers["Content-Length"])
    whole = client.session.get(link, timeout=5).content
    assert whole.startswith(half)
    # http.client has read a little of it into a buffer of its own.
    assert rest
    assert rest in whole[len(half) :]


def test_slow_takes_its_time_and_is_whole(client: Client) -> None:
    link = _link(client, "slow/400ms")
    connection, answer = _raw(link)
    first = answer.read1()
    whole = first + answer.read()
    connection.close()

    assert len(first) < len(whole) / 2
    assert len(whole) == int(answer.headers["Content-Length"])
    Image.open(io.BytesIO(whole)).load()


def test_endless_announces_no_length(client: Client) -> None:
    connection, answer = _raw(_link(client, "endless"))
    data = answer.read(3 * 1024 * 1024)
    connection.close()

    assert "Content-Length" not in answer.headers
    assert answer.headers["Connection"] == "close"
    assert data.startswith(b"\x89PNG")
    assert len(data) == 3 * 1024 * 1024
    assert not any(data[-1024:])


def test_endless_ends_at_last(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broken_images, "ENDLESS_BYTES", 1024 * 1024)

    assert 900_000 < len(_get(client, "endless").content) <= 1024 * 1024


def test_gzip_bomb_is_small_until_it_is_unpacked(client: Client) -> None:
    link = _link(client, "gzip_bomb")
    connection, answer = _raw(link)
    packed = answer.read()
    connection.close()
    whole = client.session.get(link, timeout=5, stream=True)
    begin = next(whole.iter_content(1024))
    whole.close()

    assert answer.headers["Content-Encoding"] == "gzip"
    assert len(packed) < 2 * 1024 * 1024
    assert begin.startswith(b"\x89PNG")
    # The image, and then the first of the 64 like members.
    image = zlib.decompressobj(wbits=31)
    image.decompress(packed)
    member = image.unused_data[: len(image.unused_data) // 64]
    assert image.unused_data == member * 64
    assert len(gzip.decompress(member)) * 64 == 2**30


def test_pixel_bomb_claims_more_than_it_has(client: Client) -> None:
    answer = _get(client, "pixel_bomb")

    assert len(answer.content) < 10_000
    header = answer.content[16:24]
    assert [int.from_bytes(header[:4]), int.from_bytes(header[4:])] == [50_000, 50_000]


def test_redirect_leads_to_the_image(client: Client) -> None:
    answer = client.session.get(_link(client, "redirect"), timeout=5)

    assert _good(answer)
    assert [hop.status_code for hop in answer.history] == [302]
    assert client.tasks()[0]["image_asks"] == [1]


def test_redirect_loop_never_arrives(client: Client) -> None:
    with pytest.raises(requests.TooManyRedirects):
        client.session.get(_link(client, "redirect_loop"), timeout=5)


def test_redirect_private_leads_to_the_metadata(client: Client) -> None:
    answer = _get(client, "redirect_private")

    assert answer.status_code == 302
    assert answer.headers["Location"] == "http://169.254.169.254/latest/meta-data/"


def test_a_dead_link_is_404_as_s3_has_it(client: Client, clock: Clock) -> None:
    prompt = "x [sandbox: expire_links=5, image=slow]"
    seen = client.finished("hiapi", client.submitted("hiapi", prompt))
    (link,) = links(seen)
    clock.ahead = 6
    answer = client.session.get(link, timeout=5)

    assert answer.status_code == 404
    assert "<Code>NoSuchKey</Code>" in answer.text
    assert seen["output"][0]["expireAt"] == seen["completed"] + 5


def _threads() -> int:
    """How many threads serve a connection."""
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


@pytest.mark.parametrize("fault", ["slow", "endless"])
def test_ends_when_the_client_goes_away(
    client: Client, capfd: pytest.CaptureFixture[str], fault: str
) -> None:
    link, before = _link(client, fault), _threads()
    connection, answer = _raw(link)
    answer.read1(100)
    assert _threads() > before
    answer.close()
    connection.close()

    wait_until(lambda: _threads() <= before)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("fault", ["slow", "endless"])
def test_ends_when_the_sandbox_stops(fault: str) -> None:
    before = _threads()
    with Sandbox(Settings(port=0, api_key=KEY, task_seconds=0, allow_http=True)) as sandbox:
        client = Client(sandbox.url)
        connection, answer = _raw(_link(client, fault))
        client.session.close()
        answer.read1(100)

    wait_until(lambda: _threads() <= before)
    answer.close()
    connection.close()
