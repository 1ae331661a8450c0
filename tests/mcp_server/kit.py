"""The MCP server in this process, against a script of the API's answers.

Only the tests that use it import it. The MCP library takes two seconds in each process.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import httpx2
from mcp import Client
from mcp.types import CallToolResult, TextContent

from orchestrator.mcp_server.__main__ import configure_log
from orchestrator.mcp_server.inputs import WantedImages
from orchestrator.mcp_server.server import make_server
from orchestrator.mcp_server.tools import TOOLS

KEY = "orch_secret-key"
JOB: dict[str, Any] = {
    "id": "job_1",
    "status": "succeeded",
    "provider": "hiapi",
    "model": "Nano-Banana-2",
    "created_at": "2026-11-30T00:53:20.000Z",
    "deadline_at": "2026-11-30T01:53:20.000Z",
    "settled_at": "2026-11-30T00:53:26.120Z",
    "images": [],
    "late_images": [],
    "error": None,
    "cost": None,
}
IMAGE: dict[str, Any] = {
    "url": "https://images.example.com/v1/jobs/job_1/images/0",
    "archived_at": None,
    "width": None,
    "height": None,
    "bytes": None,
    "content_type": None,
}


@dataclass
class ScriptedApi:
    """Gives each request the next answer, or raises it. The last one is for all that follow."""

    answers: list[httpx2.Response | Exception]
    requests: list[httpx2.Request] = field(default_factory=list)

    def call(self, tool: str, **arguments: Any) -> CallToolResult:
        """Return the answer of a tool."""

        async def run() -> CallToolResult:
            transport = httpx2.MockTransport(self._answer)
            server = make_server("https://images.example.com", lambda _: KEY, transport)
            async with Client(server) as client:
                return await client.call_tool(tool, arguments)

        return asyncio.run(run())

    def error(self, tool: str, **arguments: Any) -> str:
        """Return the text of an error."""
        answer = self.call(tool, **arguments)
        assert answer.is_error
        return "\n".join(part.text for part in answer.content if isinstance(part, TextContent))

    def bodies(self) -> list[Any]:
        return [json.loads(request.content) for request in self.requests]

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, Exception):
            raise found
        return httpx2.Response(found.status_code, headers=found.headers, content=found.content)


def answer(status: int, body: Any = None, **headers: str) -> httpx2.Response:
    """Return an answer: of text, or of JSON. `Retry_After` is the header `Retry-After`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = {"text": body} if isinstance(body, str) else {"json": body}
    return httpx2.Response(status, headers=named, **content)


def api(*answers: httpx2.Response | Exception) -> ScriptedApi:
    return ScriptedApi(list(answers))


#: Sets up the logs of the process.
log_as_the_process = configure_log
#: No answer came.
LOST = httpx2.ReadError("the connection broke")


def tools() -> dict[str, bool]:
    """Return the names of the tools, and whether each changes something."""
    return {name: tool.changes for name, tool in TOOLS.items()}


def request_fields() -> set[str]:
    """Return the fields of a job's request that the tools take."""
    return set(WantedImages.model_fields)
