"""Notifications as the tests of the inbox send them, signed and not."""

import json
import time
from typing import Any

import requests

from sandbox.signing import sign
from tests.sandbox.kit import Client
from tests.sandbox.test_signing import KEY

BODY = json.dumps({"type": "job.succeeded", "data": {"id": "job_1"}}).encode()


def headers(
    message_id: str = "msg_1", body: bytes = BODY, key: bytes = KEY, ago: int = 0
) -> dict[str, str]:
    seconds = str(int(time.time()) - ago)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": seconds,
        "webhook-signature": sign(key, message_id, seconds, body),
    }


def send(client: Client, name: str = "shop", **options: Any) -> requests.Response:
    given = {"data": BODY, "headers": headers(), **options}
    return client.post(f"/inbox/{name}", allow_redirects=False, **given)


def kept(client: Client, **query: str) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = client.get("/control/inbox", params=query).json()
    return kept
