"""Secrets that are exchanged while callbacks are in flight, with web started anew."""

from __future__ import annotations

from uuid import uuid4

import requests

from orchestrator.clock import now_ms
from tests.system.conftest import Client, UnpolledStack, eventually, restart_web
from tests.webhooks.kit import signed

NEW_KEY = "a new key, made for this test only"
OLD_SECRET, NEW_SECRET = "whsec_before_the_exchange", "whsec_after_the_exchange"
#: No callback comes by itself.
WISH = "[sandbox: slow=600]"


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


def test_callbacks_of_the_old_key_and_the_old_secret_settle_while_these_are_kept(
    unpolled: UnpolledStack,
) -> None:
    stack, client = unpolled.stack, unpolled.client
    unsigned, unsigned_url, unsigned_body = in_flight(client, "evolink")
    job, url, body = in_flight(client, "hiapi")
    old_key = stack.env["ORCHESTRATOR_SECRET_KEY"]

    restart_web(stack, ORCHESTRATOR_SECRET_KEY=NEW_KEY, ORCHESTRATOR_SECRET_KEYS_OLD="")
    assert send(unsigned_url, unsigned_body) == 404
    assert client.job(unsigned)["status"] == "running"

    both = f"an even older key,{old_key}"
    restart_web(stack, ORCHESTRATOR_SECRET_KEYS_OLD=both, HIAPI_WEBHOOK_SECRET=NEW_SECRET)
    assert send(unsigned_url, unsigned_body) == 200
    assert client.outcome(unsigned)["settled_by"] == "callback"
    assert (send(url, body, OLD_SECRET), send(url, body)) == (401, 401)
    assert client.job(job)["status"] == "running"

    restart_web(stack, HIAPI_WEBHOOK_SECRETS_OLD=OLD_SECRET)
    assert send(url, body, "whsec_of_nobody") == 401
    assert send(url, body, OLD_SECRET) == 200
    assert client.outcome(job)["settled_by"] == "callback"
    assert send(url, body, NEW_SECRET) == 200, "the new one too: a duplicate"
