"""Agents that use the MCP server with the official client library.

Only the tests that use it import it. The library takes two seconds in each process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, ImageContent, TextContent, Tool

from tests.system.conftest import WAIT_SECONDS


@dataclass(frozen=True)
class Agent:
    """A connected agent."""

    client: Client

    async def tools(self) -> dict[str, Tool]:
        return {tool.name: tool for tool in (await self.client.list_tools()).tools}

    async def call(self, name: str, progress: Any = None, **arguments: Any) -> dict[str, Any]:
        """Return the result of a tool."""
        answer = await self.answer(name, progress, **arguments)
        assert not answer.is_error, answer.content
        assert isinstance(answer.structured_content, dict)
        return answer.structured_content

    async def error(self, name: str, **arguments: Any) -> str:
        """Return the error of a tool."""
        answer = await self.answer(name, **arguments)
        assert answer.is_error
        assert answer.structured_content is None
        return "\n".join(part.text for part in answer.content if isinstance(part, TextContent))

    async def pictures(self, name: str, **arguments: Any) -> list[str]:
        """Return the types of the images in the answer of a tool."""
        content = (await self.answer(name, **arguments)).content
        return [part.mime_type for part in content if isinstance(part, ImageContent)]

    async def no_answer(self, name: str, seconds: float = WAIT_SECONDS, **arguments: Any) -> None:
        """Call a tool whose answer does not come within a time, or at all."""
        with pytest.raises(MCPError):
            await self.client.call_tool(name, arguments, read_timeout_seconds=seconds)

    async def outcome(self, job_id: str) -> dict[str, Any]:
        """Wait as the tool tells: until it is done."""
        while not (job := await self.call("wait_for_job", job_id=job_id))["done"]:
            pass
        return job

    async def answer(self, name: str, progress: Any = None, **arguments: Any) -> CallToolResult:
        return await self.client.call_tool(name, arguments, progress_callback=progress)


Work = Callable[[Agent], Awaitable[Any]]


def over_http(url: str, key: str, work: Work, mode: str = "auto") -> Any:
    """Let an agent with a key work, and return what `work` returns.

    Args:
        url: of the server.
        key: an API key.
        work: is called with the agent.
        mode: `auto` uses the newest protocol; `legacy` is that of older clients.
    """

    async def run() -> Any:
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx2.AsyncClient(headers=headers, timeout=WAIT_SECONDS) as http:
            transport = streamable_http_client(url, http_client=http)
            async with Client(transport, mode=mode) as client:
                return await work(Agent(client))

    return asyncio.run(run())


def over_stdio(command: Sequence[str], env: Mapping[str, str], work: Work) -> Any:
    """Start the server as an agent does, and let the agent work."""

    async def run() -> Any:
        process = StdioServerParameters(command=command[0], args=[*command[1:]], env=dict(env))
        async with Client(process) as client:
            return await work(Agent(client))

    return asyncio.run(run())
