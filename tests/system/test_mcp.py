"""The MCP server as real processes, with the official client library, against the running stack."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import requests

from orchestrator.cli.ports import free_port
from orchestrator.cli.stack import Stack
from tests.system.conftest import TENANTS, WAIT_SECONDS, Client, eventually
from tests.system.rack import family

if TYPE_CHECKING:
    from tests.system.mcp_agents import Agent, Work

PROCESS = [sys.executable, "-P", "-m", "orchestrator.mcp_server"]
WANTED = {"provider": "hiapi", "model": "Nano-Banana-2"}


@dataclass(frozen=True)
class McpProcess:
    """An MCP server that listens."""

    port: int
    log_file: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    @property
    def log(self) -> str:
        return self.log_file.read_text("utf-8")

    def serve(self, key: str, work: Work, mode: str = "auto") -> Any:
        """Let an agent with a key work."""
        from tests.system.mcp_agents import over_http  # noqa: PLC0415  # see there

        return over_http(self.url, key, work, mode)


@pytest.fixture(scope="module")
def served(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[McpProcess]:
    """The HTTP form, for agents of every tenant."""
    port, log_file = free_port(), tmp_path_factory.mktemp("mcp") / "mcp.log"
    command = [*PROCESS, "--host", "127.0.0.1", "--port", str(port)]
    # The key of the stdio form must not help an agent without one.
    env = environment(stack, stack.web_url, stack.api_key)
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        server = McpProcess(port, log_file, process)
        try:
            health = f"http://127.0.0.1:{port}/healthz"
            eventually(lambda: answers(health) or process.poll() is not None)
            assert process.poll() is None, server.log
            yield server
        finally:
            process.terminate()
            process.wait(WAIT_SECONDS)


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=10).ok
    except requests.ConnectionError:
        return False


def environment(stack: Stack, url: str, key: str) -> dict[str, str]:
    """The environment of an MCP server: nothing of the installation but its address."""
    kept = {k: v for k, v in stack.env.items() if not k.startswith("ORCHESTRATOR_")}
    return {**kept, "ORCHESTRATOR_MCP_API_URL": url, "ORCHESTRATOR_MCP_KEY": key}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_an_agent_buys_an_image_and_sees_it(client: Client, served: McpProcess, mode: str) -> None:
    prompt = f"A lighthouse {uuid4()}"

    async def work(agent: Agent) -> None:
        tools = await agent.tools()
        assert "key" in tools["submit_image_job"].input_schema["required"]
        assert all(tool.output_schema for tool in tools.values())

        [hiapi] = (await agent.call("list_models", provider="hiapi"))["providers"]
        assert "resolution" in hiapi["models"][0]["options"]
        quote = await agent.call("quote", **WANTED, prompt=prompt)
        assert (quote["accepted"], quote["costs"][0]["amount"]) == (True, 0.04)
        assert client.tasks(prompt) == []

        wanted = {**WANTED, "prompt": prompt, "key": str(uuid4())}
        first = await agent.call("submit_image_job", **wanted)
        again = await agent.call("submit_image_job", **wanted)
        assert (first["replayed"], again["replayed"]) == (False, True)
        assert first["job_id"] == again["job_id"]
        found = await agent.call("list_jobs", key=wanted["key"])
        assert [job["job_id"] for job in found["jobs"]] == [first["job_id"]]

        job = await agent.outcome(first["job_id"])
        assert job["status"] == "succeeded"
        [image] = job["images"]
        assert requests.get(image["link"], timeout=60).headers["Content-Type"] == "image/png"
        eventually(lambda: client.job(first["job_id"])["archive"]["status"] == "done")
        assert await agent.pictures("view_image", job_id=first["job_id"]) == ["image/webp"]

    served.serve(TENANTS["atelier"], work, mode)
    assert len(client.tasks(prompt)) == 1
    assert prompt not in served.log
    assert TENANTS["atelier"] not in served.log


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_wait_reports_progress_and_its_end_is_not_that_of_the_job(
    client: Client, served: McpProcess, mode: str
) -> None:
    reports: list[tuple[float, float | None, str | None]] = []

    async def progress(passed: float, total: float | None, message: str | None) -> None:
        reports.append((passed, total, message))

    async def work(agent: Agent) -> None:
        prompt = "A slow snail [sandbox: slow=15s]"
        job = await agent.call("submit_image_job", **WANTED, prompt=prompt, key=str(uuid4()))
        job_id = job["job_id"]
        job = await agent.call("wait_for_job", progress, job_id=job_id, seconds=1.5)
        assert (job["done"], job["error"]) == (False, None)
        await agent.no_answer("wait_for_job", 0.2, job_id=job_id)
        assert (await agent.call("get_job", job_id=job_id))["done"] is False

    served.serve(TENANTS["atelier"], work, mode)
    assert reports
    assert all(total == 1.5 and message for _, total, message in reports)


def test_another_tenant_sees_nothing_of_it(client: Client, served: McpProcess) -> None:
    async def submit(agent: Agent) -> str:
        wanted = {**WANTED, "prompt": "A private fox", "key": "the-same-key"}
        job_id: str = (await agent.call("submit_image_job", **wanted))["job_id"]
        return job_id

    async def spy(agent: Agent) -> str:
        for tool in ("get_job", "wait_for_job", "cancel_job", "view_image"):
            assert "404" in await agent.error(tool, job_id=private), tool
        own = await submit(agent)
        assert [job["job_id"] for job in (await agent.call("list_jobs"))["jobs"]] == [own]
        return own

    private = served.serve(TENANTS["atelier"], submit)
    assert served.serve(TENANTS["studio"], spy) != private
    assert client.outcome(private)["status"] == "succeeded"


def test_refusals_name_the_field_and_what_is_allowed(served: McpProcess) -> None:
    wanted = {**WANTED, "prompt": "A hare", "key": "hare-1"}

    async def work(agent: Agent) -> None:
        without = {name: value for name, value in wanted.items() if name != "key"}
        assert "key is required" in await agent.error("submit_image_job", **without)
        text = await agent.error("submit_image_job", **{**wanted, "n": 2, "prompt": "A secret"})
        assert "- field n: got '2'; allowed: 1" in text
        assert '"type": "urn:orchestrator:problem:invalid-request"' in text
        assert "size is not a known argument" in await agent.error("quote", **WANTED, size="1K")
        quote = await agent.call("quote", **WANTED, prompt="A hare", resolution="9K")
        assert (quote["accepted"], quote["violations"][0]["field"]) == (False, "resolution")
        await agent.call("submit_image_job", **wanted)
        text = await agent.error("submit_image_job", **{**wanted, "prompt": "A hound"})
        assert "already belongs to a job with other arguments" in text
        assert "one of" in await agent.error("list_models", provider="nobody")
        assert "There is no tool 'buy'" in await agent.error("buy")

    async def stranger(agent: Agent) -> None:
        assert "HTTP 401" in await agent.error("list_models")

    served.serve(TENANTS["atelier"], work)
    served.serve("an-unknown-key", stranger)
    assert "A secret" not in served.log


def test_the_http_form_asks_for_a_key_and_for_our_own_name(served: McpProcess) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    base = {"Accept": "application/json, text/event-stream", "Authorization": "Bearer x"}

    def status(**headers: str) -> int:
        named = {**base, **headers}
        return requests.post(served.url, json=body, headers=named, timeout=60).status_code

    assert status() == 200
    assert requests.get(served.url, headers=base, timeout=60).status_code == 405
    assert status(Authorization="") == 401
    assert status(Host="evil.example") == 421
    assert status(Origin="https://evil.example") == 403


@contextmanager
def deadly(stack: Stack) -> Iterator[str]:
    """The address of a proxy before the API.

    When the API has accepted a submission, the proxy kills our MCP servers on stdin and stdout, and
    does not pass the answer on.
    """

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.pass_on("GET")

        def do_POST(self) -> None:
            self.pass_on("POST")

        def pass_on(self, method: str) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            kept = {k: v for k, v in self.headers.items() if k.lower() != "host"}
            url = f"{stack.web_url}{self.path}"
            answer = requests.request(method, url, data=body, headers=kept, timeout=60)
            if answer.status_code == 202:
                kill_mcp_servers()
                return
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def kill_mcp_servers() -> None:
    """Kill the children of this process that serve an agent on stdin and stdout."""
    for pid in family(os.getpid()):
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"orchestrator.mcp_server" in line and b"--host" not in line:
            os.kill(pid, signal.SIGKILL)


def test_an_agent_that_crashes_and_repeats_buys_once(client: Client, served: McpProcess) -> None:
    from tests.system.mcp_agents import over_stdio  # noqa: PLC0415  # see there

    prompt = f"A hare {uuid4()}"
    wanted: dict[str, Any] = {**WANTED, "prompt": prompt, "key": str(uuid4())}

    async def lose(agent: Agent) -> None:
        quote = {name: value for name, value in wanted.items() if name != "key"}
        assert (await agent.call("quote", **quote))["accepted"] is True
        await agent.no_answer("submit_image_job", **wanted)

    async def repeat(agent: Agent) -> None:
        job = await agent.call("submit_image_job", **wanted)
        assert job["replayed"] is True
        assert (await agent.outcome(job["job_id"]))["status"] == "succeeded"

    with deadly(client.stack) as url:
        over_stdio(PROCESS, environment(client.stack, url, TENANTS["atelier"]), lose)
    served.serve(TENANTS["atelier"], repeat)

    assert len(client.tasks(prompt)) == 1


def test_a_stop_lets_the_current_calls_end(served: McpProcess) -> None:
    """The last test of this file: it stops the server."""

    async def work(agent: Agent) -> None:
        wanted = {**WANTED, "prompt": "A late snail [sandbox: slow=15s]", "key": str(uuid4())}
        job = await agent.call("submit_image_job", **wanted)

        async def stop(*_: object) -> None:
            served.process.terminate()

        waiting = {"job_id": job["job_id"], "seconds": 2}
        assert (await agent.call("wait_for_job", stop, **waiting))["done"] is False

    served.serve(TENANTS["atelier"], work, "legacy")
    served.process.wait(WAIT_SECONDS)
