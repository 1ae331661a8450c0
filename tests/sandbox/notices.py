"""Notifications of the inbox's tests, with and without a signature."""

import base64
import json
import time
from typing import Any

import requests

from sandbox.signing import sign
from tests.sandbox.kit import SandboxClient

KEY = b"a key of at least 24 bytes"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
BODY = json.dumps({"type": "job.succeeded", "data": {"id": "job_1"}}).encode()


def headers(message_id: str = "msg_1", body: bytes = BODY, key: bytes = KEY) -> dict[str, str]:
    seconds = str(int(time.time()))
    return {
        "webhook-id": message_id,
        "webhook-timestamp": seconds,
        "webhook-signature": sign(key, message_id, seconds, body),
    }


def send(client: SandboxClient, name: str = "shop", **options: Any) -> requests.Response:
    request = {"data": BODY, "headers": headers(), **options}
    return client.post(f"/inbox/{name}", allow_redirects=False, **request)


def stored(client: SandboxClient, **query: str) -> list[dict[str, Any]]:
    notifications: list[dict[str, Any]] = client.get("/control/inbox", params=query).json()
    return notifications
