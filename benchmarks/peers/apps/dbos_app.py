"""A job as a DBOS workflow: submit it, wait for the signed callback, return the outcome.

It follows DBOS' guide for webhooks: the route of the callback sends a message to the workflow. The
workflow is asynchronous, so a waiting job holds no thread.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import uvicorn
from dbos import DBOS, SetWorkflowID
from fastapi import FastAPI, Request, Response

PORT, PROVIDER = int(os.environ["PORT"]), os.environ["PROVIDER_URL"]
SECRET = os.environ["SECRET"].encode()
#: A job waits this long for its callback. Seconds.
CALLBACK_SECONDS = 3600

sessions: list[aiohttp.ClientSession] = []
completed: set[str] = set()


def token(job_id: str) -> str:
    """Return the token of a callback URL."""
    return hmac.digest(SECRET, job_id.encode(), hashlib.sha256).hex()


@DBOS.step()
async def submit(job_id: str, prompt: str) -> str:
    """Send the job to the provider. Return the id of its task."""
    url = f"http://127.0.0.1:{PORT}/callbacks/{job_id}/{token(job_id)}"
    body = {"model": "nano-banana-2-lite", "prompt": prompt, "callback_url": url}
    async with sessions[0].post(f"{PROVIDER}/v1/images/generations", json=body) as answer:
        return str((await answer.json())["id"])


@DBOS.workflow()
async def run(job_id: str, prompt: str) -> dict[str, Any]:
    """Do one job."""
    task = await submit(job_id, prompt)
    outcome = await DBOS.recv_async("outcome", timeout_seconds=CALLBACK_SECONDS)
    completed.add(job_id)
    return {"task": task, "status": outcome["status"], "error": outcome.get("error")}


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Open the connections to the provider, and start DBOS in this event loop."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64)) as session:
        sessions.append(session)
        DBOS.launch()
        yield
        DBOS.destroy()


app = FastAPI(lifespan=lifespan)
DBOS(
    config={
        "name": "jobs",
        "system_database_url": os.environ["DATABASE_URL"],
        "sys_db_pool_size": int(os.environ["POOL_SIZE"]),
        "log_level": "WARNING",
        "enable_otlp": False,
    }
)


@app.post("/jobs", status_code=202)
async def create(request: Request) -> dict[str, str]:
    """Start a workflow."""
    body = await request.json()
    with SetWorkflowID(body["id"]):
        await DBOS.start_workflow_async(run, body["id"], body["prompt"])
    return {"id": body["id"]}


@app.post("/callbacks/{job_id}/{given}")
async def receive(job_id: str, given: str, request: Request) -> Response:
    """Check a callback, and give it to its workflow."""
    if not hmac.compare_digest(token(job_id), given):
        return Response(status_code=404)
    await DBOS.send_async(job_id, await request.json(), "outcome")
    return Response("ok")


@app.get("/completed")
async def count() -> Response:
    """Return how many jobs this process has completed."""
    return Response(str(len(completed)))


@app.get("/ended")
async def ended() -> Response:
    """Return how many workflows have ended, as the database says."""
    done = await DBOS.list_workflows_async(status="SUCCESS", load_input=False, load_output=False)
    return Response(str(len(done)))


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="warning", access_log=False)
