"""The least that a receiver could do by hand: JSON, HMAC, one script. What ours is held against."""

from __future__ import annotations

import hashlib
import hmac
import json
import os

from flask import Flask, request
from redis import Redis

SECRET = os.environ["ORCHESTRATOR_SECRET_KEY"].encode()
SCRIPT = """
if redis.call('HGET', KEYS[1], 'status') == ARGV[1] then return 'duplicate' end
redis.call('HSET', KEYS[1], 'status', ARGV[1], 'images', ARGV[2], 'settled', ARGV[3])
redis.call('ZREM', KEYS[2], ARGV[4])
return 'settled'
"""

redis = Redis.from_url(os.environ["ORCHESTRATOR_REDIS_URL"], decode_responses=True)
settle = redis.register_script(SCRIPT)
app = Flask(__name__)


@app.post("/callbacks/<provider>/<reference>/<token>")
def receive(provider: str, reference: str, token: str) -> str:
    """Verify and settle, and nothing else."""
    mac = hmac.digest(SECRET, f"{provider}\n{reference}".encode(), hashlib.sha256).hex()
    if not hmac.compare_digest(mac, token):
        return "no"
    task = json.loads(request.get_data())
    answer: str = settle(
        keys=[f"{{m}}:{reference}", "{m}:agenda"],
        args=[task["status"], json.dumps(task["results"]), 1, reference],
    )
    return answer
