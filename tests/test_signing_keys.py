"""The public keys that sign callbacks: fetched when needed, seldom, and kept when a fetch fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import pytest

from orchestrator.jsonio import dump
from orchestrator.net.guard import Forbidden
from orchestrator.net.guarded_session import RequestFailed
from orchestrator.signing_keys import LIFETIME_SECONDS, MIN_INTERVAL_SECONDS, SigningKeys
from tests.security.test_public_keys import JWK, KEY

URL, OTHER = "https://keys.example.com/a", "https://keys.example.com/b"
NEWER = {**JWK, "x": "PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw"}
NEW_KEY = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")


@dataclass
class Server:
    """The address of the keys, in place of a session."""

    answer: Any = field(default_factory=lambda: {"keys": [JWK]})
    asked: list[str] = field(default_factory=list)

    def fetch(self, url: str, into: BinaryIO, *, seconds: float, max_bytes: int) -> None:
        self.asked.append(url)
        if isinstance(self.answer, Exception):
            raise self.answer
        into.write(dump(self.answer))


@dataclass
class Scene:
    """Signing keys whose time and background the test controls."""

    server: Any = field(default_factory=Server)
    now: float = 1000.0
    waiting: list[Callable[[], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keys = SigningKeys(lambda: self.now, self.waiting.append)

    def known(self, url: str = URL) -> tuple[bytes, ...]:
        """Ask for the keys, and then let the background work."""
        known = self.keys.known(url, self.server)
        self.work()
        return known

    def refresh(self) -> bool:
        begun = self.keys.refresh(URL, self.server)
        self.work()
        return begun

    def work(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_the_first_question_waits_for_nothing(scene: Scene) -> None:
    assert scene.keys.known(URL, scene.server) == ()
    assert scene.server.asked == []
    scene.work()

    assert scene.known() == (KEY,)
    assert scene.server.asked == [URL]


def test_keys_are_fetched_once_in_their_lifetime(scene: Scene) -> None:
    scene.known()
    for _ in range(100):
        scene.now += LIFETIME_SECONDS / 100
        assert scene.known() == (KEY,)
    assert len(scene.server.asked) == 1
    scene.server.answer = {"keys": [NEWER]}
    scene.now += 1

    assert scene.known() == (KEY,)
    assert scene.known() == (NEW_KEY,)
    assert len(scene.server.asked) == 2


def test_forged_keys_cause_few_fetches(scene: Scene) -> None:
    scene.known()
    begun = 0
    for _ in range(600):
        scene.now += 1
        begun += scene.refresh()

    assert begun == 600 / MIN_INTERVAL_SECONDS
    assert len(scene.server.asked) == 1 + begun


def test_many_questions_at_once_cause_one_fetch(scene: Scene) -> None:
    for _ in range(50):
        scene.keys.known(URL, scene.server)

    assert len(scene.waiting) == 1


@pytest.mark.parametrize(
    "failure", [Forbidden("x"), RequestFailed("x"), {"keys": []}, "no keys", None]
)
def test_old_keys_are_used_while_a_fetch_fails(scene: Scene, failure: Any) -> None:
    scene.known()
    scene.server.answer = failure
    for _ in range(3):
        scene.now += 24 * 3600
        assert scene.known() == (KEY,)
    assert len(scene.server.asked) == 4
    scene.server.answer = {"keys": [NEWER]}
    scene.now += MIN_INTERVAL_SECONDS

    assert scene.known() == (KEY,)
    assert scene.known() == (NEW_KEY,)


def test_a_first_fetch_that_failed_is_repeated_after_a_while(scene: Scene) -> None:
    scene.server.answer = RequestFailed("x")
    scene.known()
    scene.server.answer = {"keys": [JWK]}
    scene.now += MIN_INTERVAL_SECONDS - 1
    assert scene.known() == ()
    scene.now += 1
    assert scene.known() == ()

    assert scene.known() == (KEY,)


def test_a_rotation_is_followed_by_a_refresh(scene: Scene) -> None:
    scene.known()
    scene.server.answer = {"keys": [JWK, NEWER]}
    scene.now += MIN_INTERVAL_SECONDS
    scene.refresh()

    assert scene.known() == (KEY, NEW_KEY)


def test_each_address_has_keys_of_its_own(scene: Scene) -> None:
    scene.known()
    scene.server.answer = {"keys": [NEWER]}
    scene.known(OTHER)

    assert (scene.known(), scene.known(OTHER)) == ((KEY,), (NEW_KEY,))
