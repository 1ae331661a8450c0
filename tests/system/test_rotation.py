"""Secrets that are exchanged while a callback is in flight, with web started anew."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
import requests

from orchestrator.cli.stack import START_TIMEOUT_SECONDS, Stack
from orchestrator.clock import now_ms
from tests.system.conftest import Client, eventually
from tests.webhooks.kit import signed

NEW_KEY = "a new key, made for this test only"
OLD_SECRET, NEW_SECRET = "whsec_before_the_exchange", "whsec_after_the_exchange"
#: Granian's own lines for each of its workers.
SPAWNED, STARTED = "Spawning worker-", "Started worker-"
#: Nothing is polled and no callback comes by itself.
WISH = "[sandbox: slow=600]"


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    settings = {
        "ORCHESTRATOR_CALLBACK_GRACE_SECONDS": "600",
        "HIAPI_WEBHOOK_SECRET": OLD_SECRET,
    }
    with Stack(settings=settings) as stack:
        yield Client(stack)


def again(client: Client, **changes: str) -> None:
    """Stop web, and start it with other settings."""
    stack = client.stack
    # A worker of granian's that is told to stop before it has started does not.
    eventually(
        lambda: stack.log("web").count(STARTED) == spawned(stack), within=START_TIMEOUT_SECONDS
    )
    web = stack.running.pop("web")
    web.terminate()
    web.wait(60)
    stack.env.update(changes)
    stack.start("web")
    stack.wait_for("web", f"{stack.web_url}/healthz")


def spawned(stack: Stack) -> int:
    return stack.log("web").count(SPAWNED)


def in_flight(client: Client, provider: str) -> tuple[str, str, bytes]:
    """A running job, where its callback goes, and what that says."""
    text = f"{uuid4()} {WISH}"
    job = client.enqueue(provider, text)
    task = eventually(lambda: client.tasks(text))[0]
    eventually(lambda: client.job(job)["status"] == "running")
    done = {
        "hiapi": b'{"taskId":"%s","status":"fail"}',
        "evolink": b'{"id":"%s","status":"failed"}',
    }
    return job, task["callback_url"], done[provider] % task["id"].encode()


def send(url: str, body: bytes, secret: str | None = None) -> int:
    headers = signed(body, now_ms() // 1000, secret) if secret else {}
    return requests.post(url, data=body, headers=headers, timeout=60).status_code


def test_a_callback_that_was_asked_for_with_the_old_key_settles_while_that_is_kept(
    client: Client,
) -> None:
    job, url, body = in_flight(client, "evolink")
    old = client.stack.env["ORCHESTRATOR_SECRET_KEY"]

    again(client, ORCHESTRATOR_SECRET_KEY=NEW_KEY, ORCHESTRATOR_SECRET_KEYS_OLD="")
    assert send(url, body) == 404
    assert client.job(job)["status"] == "running"

    again(client, ORCHESTRATOR_SECRET_KEYS_OLD=f"an even older key,{old}")
    assert send(url, body) == 200
    assert client.outcome(job)["settled_by"] == "callback"

    again(client, ORCHESTRATOR_SECRET_KEY=old, ORCHESTRATOR_SECRET_KEYS_OLD="")


def test_a_callback_that_was_signed_with_the_old_secret_settles_while_that_is_kept(
    client: Client,
) -> None:
    job, url, body = in_flight(client, "hiapi")

    again(client, HIAPI_WEBHOOK_SECRET=NEW_SECRET, HIAPI_WEBHOOK_SECRETS_OLD="")
    assert (send(url, body, OLD_SECRET), send(url, body)) == (401, 401)
    assert client.job(job)["status"] == "running"

    again(client, HIAPI_WEBHOOK_SECRETS_OLD=OLD_SECRET)
    assert send(url, body, "whsec_of_nobody") == 401
    assert send(url, body, OLD_SECRET) == 200
    assert client.outcome(job)["settled_by"] == "callback"
    assert send(url, body, NEW_SECRET) == 200, "the new one too: a duplicate"
