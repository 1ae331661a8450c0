"""A job by hand with Flask, Celery and Redis, as tutorials write it.

A route stores the job and sends a task. The task calls the provider. The route of the callback
checks it, answers, and lets another task store the outcome. Nothing else is kept.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os

import requests
from celery import Celery
from flask import Flask, request
from redis import Redis

PORT, PROVIDER, REDIS_URL = (os.environ[n] for n in ("PORT", "PROVIDER_URL", "REDIS_URL"))
SECRET = os.environ["SECRET"].encode()
#: Provider calls of one process at once.
CONNECTIONS = 32

tasks = Celery("jobs", broker=REDIS_URL)
tasks.conf.update(
    # A task of a killed worker comes back after the visibility time-out.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    broker_transport_options={"visibility_timeout": int(os.environ["VISIBILITY_SECONDS"])},
    worker_prefetch_multiplier=4,
    task_ignore_result=True,
)
app = Flask(__name__)
redis = Redis.from_url(REDIS_URL, decode_responses=True)
session = requests.Session()
session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=CONNECTIONS))


def token(job_id: str) -> str:
    """Return the token of a callback URL."""
    return hmac.digest(SECRET, job_id.encode(), hashlib.sha256).hex()


@tasks.task
def submit(job_id: str) -> None:
    """Send the job to the provider."""
    prompt = redis.hget(f"job:{job_id}", "prompt")
    url = f"http://127.0.0.1:{PORT}/callbacks/{job_id}/{token(job_id)}"
    body = {"model": "nano-banana-2-lite", "prompt": prompt, "callback_url": url}
    answer = session.post(f"{PROVIDER}/v1/images/generations", json=body, timeout=30)
    answer.raise_for_status()
    redis.hset(f"job:{job_id}", mapping={"status": "running", "task": answer.json()["id"]})


@tasks.task
def settle(job_id: str, outcome: dict[str, object]) -> None:
    """Store the outcome."""
    status = str(outcome["status"])
    with redis.pipeline() as pipe:
        pipe.hset(f"job:{job_id}", mapping={"status": status, "outcome": json.dumps(outcome)})
        pipe.sadd("ended", job_id)
        pipe.execute()


@app.post("/jobs")
def create() -> tuple[dict[str, str], int]:
    """Store a job, and send its task."""
    body = request.get_json()
    job_id = body["id"]
    redis.hset(f"job:{job_id}", mapping={"status": "queued", "prompt": body["prompt"]})
    submit.delay(job_id)
    return {"id": job_id}, 202


@app.post("/callbacks/<job_id>/<given>")
def receive(job_id: str, given: str) -> tuple[str, int]:
    """Check a callback, and send its task."""
    if not hmac.compare_digest(token(job_id), given):
        return "no", 404
    settle.delay(job_id, request.get_json())
    return "ok", 200
