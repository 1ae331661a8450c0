"""Compares the CPU time of the submit step with a bare pooled `requests` POST of the same body.

Only the CPU time of this process counts. The stub provider and Redis are other processes. Goal: at
most 1.5 times the bare POST.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from time import process_time
from typing import Any

import requests

from orchestrator import log
from orchestrator.cli.stack import Stack, free_port
from orchestrator.clock import now_ms
from orchestrator.jobs.request import JobRequest
from orchestrator.jsonio import dump
from orchestrator.runtime import Runtime
from orchestrator.settings.settings import Settings
from orchestrator.steps.submit import submit

GOAL = 1.5
ROUNDS = 5
JOBS = 1000
ANSWER = dump({"code": 200, "message": "success", "data": {"taskId": "tk-hiapi-0123456789"}})
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def run() -> bool:
    """Measure both alternately, with one thread and with the 32 threads of a worker."""
    port = free_port()
    stub = multiprocessing.get_context("spawn").Process(target=_stub, args=(port,), daemon=True)
    stub.start()
    try:
        with Stack(processes=(), settings={"HIAPI_BASE_URL": f"http://127.0.0.1:{port}"}) as stack:
            stack.wait_for("stub", f"http://127.0.0.1:{port}/")
            reached = [_compare(_runtime(stack), port, threads) for threads in (1, 32)]
    finally:
        stub.terminate()
        stub.join()
    return all(reached)


def _compare(runtime: Runtime, port: int, threads: int) -> bool:
    bare, ours = [], []
    session = _session(threads)
    url = f"http://127.0.0.1:{port}/v1/tasks"
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(ROUNDS):
            bare.append(_cpu(pool, lambda _: _post(session, url), range(JOBS)))
            ours.append(_cpu(pool, lambda job_id: submit(runtime, job_id), _jobs(runtime)))
    ratio = median(ours) / median(bare)
    print(f"Submit: {ROUNDS} rounds of {JOBS} jobs on {threads} threads, CPU of this process")
    print(f"  bare POST     {median(bare):5.0f} us")
    print(f"  submit step   {median(ours):5.0f} us")
    print(f"  ratio         {ratio:5.2f}    goal: at most {GOAL}\n")
    return ratio <= GOAL


def _cpu(pool: ThreadPoolExecutor, work: Callable[[Any], object], items: Any) -> float:
    items = list(items)
    began = process_time()
    list(pool.map(work, items))
    return (process_time() - began) / len(items) * 1e6


def _jobs(runtime: Runtime) -> list[str]:
    now = now_ms()
    wanted = JobRequest("hiapi", "Nano-Banana-2", {"prompt": "A lighthouse at dusk"})
    create = runtime.ledger.create
    return [create(wanted, now=now, deadline_at=now + 3_600_000).job_id for _ in range(JOBS)]


def _session(threads: int) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=threads))
    return session


def _post(session: requests.Session, url: str) -> None:
    body = {"model": "Nano-Banana-2", "input": {"prompt": "A lighthouse at dusk"}}
    callback = {"url": f"http://127.0.0.1:1/callbacks/hiapi/{'x' * 77}", "when": "final"}
    headers = {"Authorization": "Bearer sandbox", "Content-Type": "application/json"}
    data = dump({**body, "callback": callback})
    session.post(url, data=data, headers=headers, timeout=(5, 30)).json()


def _runtime(stack: Stack) -> Runtime:
    os.environ.update(stack.env)
    log.configure(level=30)
    return Runtime.from_settings(Settings.from_env())


def _stub(port: int) -> None:
    """A provider that accepts every task as fast as possible."""
    asyncio.run(_serve(port))


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Stub, "127.0.0.1", port)
    await server.serve_forever()


class _Stub(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._got = transport, b""

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, found, body = self._got.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r")[0]
        if found and len(body) >= int(length or 0):
            self._got = b""
            self._transport.write(HEAD % len(ANSWER) + ANSWER)
