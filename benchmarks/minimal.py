"""The minimal receiver for the comparison: JSON, HMAC and one Lua script.

The script is the one of the ledger, because both must settle a job once, with a timeline and an
expiry. So the ratio shows the cost of everything else.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from time import time_ns

from flask import Flask, request
from redis import Redis

from orchestrator.ledger.script import load

SECRET = os.environ["ORCHESTRATOR_SECRET_KEY"].encode()
RETENTION = 30 * 86_400_000

redis = Redis.from_url(os.environ["ORCHESTRATOR_REDIS_URL"], decode_responses=True)
settle = redis.register_script(load("settle").source)
app = Flask(__name__)


@app.post("/callbacks/<provider>/<reference>/<token>")
def receive(provider: str, reference: str, token: str) -> str:
    """Verify and settle a callback, and do nothing else."""
    mac = hmac.digest(SECRET, f"{provider}\n{reference}".encode(), hashlib.sha256).hex()
    if not hmac.compare_digest(mac, token):
        return "no"
    task = json.loads(request.get_data())
    job, attempt = reference.split(".")
    images, now = json.dumps([{"source_url": link} for link in task["results"]]), time_ns() // 10**6
    root = "{orch:0}:"
    fields: list[str | int] = ["succeeded", "callback", images, "", "", RETENTION, "{}", now]
    answer: list[str] = settle(
        keys=[f"{root}job:{job}", f"{root}events:{job}", f"{root}agenda"],
        args=[now, attempt, "", task["id"], *fields],
    )
    return answer[0]
