"""The jobs of `orchestrator demo`, with the fault that each one meets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Scenario:
    """One job of the demo: its request, its fault, and the expected result.

    Attributes:
        title: shown in the table.
        fault: the fault that the sandbox plays; see docs/sandbox.md.
        status: the expected outcome.
        settled_by: what is expected to report the outcome.
        event: an event that the timeline must show, and how often.
        images: the expected number of images.
        late: the images come after the outcome, with a second notification.
        inbox: the inbox of the sandbox that gets the notification.
    """

    provider: str
    title: str
    prompt: str
    fault: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    model: str = "nano-banana-2"
    status: str = "succeeded"
    settled_by: str = "callback"
    event: tuple[str, int] | None = None
    images: int = 1
    late: bool = False
    inbox: str = "caller"

    def request(self, sandbox_url: str) -> dict[str, Any]:
        """Return the body of `POST /v1/jobs`."""
        return {
            "provider": self.provider,
            "model": self.model,
            "prompt": f"{self.prompt} [sandbox: {self.fault}]" if self.fault else self.prompt,
            "notify_url": f"{sandbox_url}/inbox/{self.inbox}",
            **self.options,
        }


#: The inbox that answers 503 to its first notification.
SHAKY_INBOX = "shaky"
WIDE = {"aspect_ratio": "16:9"}
TALL = {"aspect_ratio": "9:16", "resolution": "2K"}

SCENARIOS = (
    Scenario("hiapi", "no fault", "A lighthouse at dusk", options=WIDE),
    Scenario("evolink", "no fault", "A fox in the snow", options=TALL),
    Scenario("uniall", "no fault, polled", "A harbour", options=TALL, settled_by="poll"),
    Scenario("aigptimage", "no fault, polled", "An owl", options=WIDE, settled_by="poll"),
    Scenario(
        "uniall",
        "three images at once",
        "Three boats",
        model="gpt-image-2",
        options={**WIDE, "n": 3},
        settled_by="poll",
        images=3,
    ),
    Scenario("uniall", "result in the answer", "A quick sketch", "early", settled_by="submit"),
    Scenario("hiapi", "callback lost", "A teapot on a red table", "drop", settled_by="poll"),
    Scenario("evolink", "callback lost", "A sleeping cat", "drop", settled_by="poll"),
    Scenario("hiapi", "callback five times", "Five birds", "duplicate=5", event=("duplicate", 4)),
    Scenario("evolink", "callback five times", "Five bees", "duplicate=5", event=("duplicate", 4)),
    Scenario("hiapi", "callback before the answer", "A very early train", "early"),
    Scenario("evolink", "callback before the answer", "A very early bird", "early"),
    Scenario("hiapi", "fails at the provider", "An impossible cube", "fail", status="failed"),
    Scenario(
        "hiapi",
        "answer lost, sent again",
        "A message in a bottle",
        "lost_response",
        event=("unconfirmed", 1),
    ),
    Scenario(
        "aigptimage",
        "answer lost, sent again",
        "A letter sent twice",
        "lost_response",
        settled_by="poll",
        event=("unconfirmed", 1),
    ),
    Scenario(
        "evolink",
        "answer lost, callback binds it",
        "A bottle in the sea",
        "lost_response",
        event=("unconfirmed", 1),
    ),
    Scenario(
        "uniall",
        "429 twice",
        "A queue",
        "429*2",
        settled_by="poll",
        event=("deferred", 2),
    ),
    Scenario(
        "evolink",
        "success without an image",
        "A slow painter",
        "thin_success=both*1",
        settled_by="poll",
        event=("callback", 1),
    ),
    Scenario(
        "hiapi",
        "image after the deadline",
        "A late train",
        "slow=12",
        options={"deadline_seconds": 3},
        status="failed",
        settled_by="deadline",
        event=("late_result", 1),
        late=True,
    ),
    Scenario(
        "hiapi",
        "error page instead of an image",
        "A shy bird",
        "image=json*1",
        event=("archive_failed", 1),
    ),
    Scenario(
        "evolink",
        "caller is down at first",
        "A postman",
        inbox=SHAKY_INBOX,
        event=("notify_failed", 1),
    ),
    Scenario("evolink", "forged callback", "A sealed letter"),
)
#: The scenario whose job also gets a forged callback.
FORGED = len(SCENARIOS) - 1
