"""The settings of the MCP server. It reads no other ones."""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestrator.security.secret import Secret
from orchestrator.settings.environment import HTTP, ConfigError, EnvironmentReader, invalid_setting

#: The address of `orchestrator web` on this machine.
DEFAULT_URL = "http://127.0.0.1:8080"
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}|\[[0-9a-f:]+\]")


@dataclass(frozen=True, slots=True)
class McpSettings:
    """The settings of the MCP server.

    Attributes:
        url: the address of the HTTP API.
        key: the API key of the one agent on stdin and stdout.
        hosts: the names under which agents reach the HTTP form, besides those of this machine.
    """

    url: str
    key: Secret | None
    hosts: tuple[str, ...]

    @classmethod
    def from_env(cls) -> McpSettings:
        """Read the settings of this process's environment.

        Raises:
            ConfigError: a variable is wrong.
        """
        env = EnvironmentReader()
        name = "ORCHESTRATOR_MCP_HOSTS"
        hosts = env.items(name)
        for host in hosts:
            if not _HOST.fullmatch(host):
                allowed = "host names without a scheme or a port, such as agents.example.com"
                raise invalid_setting(name, host, allowed)
        url = env.url("ORCHESTRATOR_MCP_API_URL", HTTP, DEFAULT_URL).rstrip("/")
        return cls(url, env.secret("ORCHESTRATOR_MCP_KEY"), hosts)

    def needed_key(self) -> Secret:
        """Return the key of the agent.

        Raises:
            ConfigError: it is not set.
        """
        if self.key is None:
            fix = "Set it to an API key; `orchestrator keys create` makes one."
            raise ConfigError(f"ORCHESTRATOR_MCP_KEY is not set. {fix}")
        return self.key
