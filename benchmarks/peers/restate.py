"""Restate: its server, and a service in JavaScript."""

from __future__ import annotations

from contextlib import ExitStack

import requests

from benchmarks.peers import installation
from benchmarks.peers.peer import Peer
from benchmarks.product import PLAIN, JobKind
from orchestrator.cli.ports import free_port

#: Partitions of the log. The default is 24, for clusters. Two cores do best with few.
PARTITIONS = "2"
_ENDED = "SELECT count(*) AS n FROM sys_invocation WHERE status = 'completed'"


class Restate(Peer):
    """Restate's server syncs its log before it answers, as it does by default."""

    app = ("app",)
    measured = ("server", "app")
    path = "/jobs/run/send"

    def start(self, closing: ExitStack) -> None:
        """Start the server and the app, and register the service."""
        self._admin, self._service, self._callbacks = free_port(), free_port(), free_port()
        server = installation.restate_server()
        self.processes.start("server", [server, "--no-logo"], env=self._settings(), cwd=self.folder)
        self.wait("Restate", self._admin, "/health")
        self.start_app()
        address = {"uri": f"http://127.0.0.1:{self._service}"}
        answer = requests.post(
            f"http://127.0.0.1:{self._admin}/deployments", json=address, timeout=60
        )
        answer.raise_for_status()

    def start_app(self) -> None:
        """Start the app."""
        env = {
            "SERVICE_PORT": str(self._service),
            "CALLBACK_PORT": str(self._callbacks),
            "INGRESS_PORT": str(self.port),
            "PROVIDER_PORT": str(self.stub.port),
            "SECRET": self.secret,
            "NODE_ENV": "production",
            "RESTATE_LOGGING": "ERROR",
        }
        self.processes.start("app", installation.restate_app(), env=env)
        self.wait("the app of Restate", self._callbacks, "/completed")

    def completed(self, kind: JobKind = PLAIN) -> list[int]:
        """Return how many jobs the app has completed."""
        return [int(self.text(self._callbacks, "/completed"))]

    def ended(self) -> int:
        """Ask the server for completed invocations."""
        answer = requests.post(
            f"http://127.0.0.1:{self._admin}/query",
            json={"query": _ENDED},
            headers={"Accept": "application/json"},
            timeout=60,
        )
        return int(answer.json()["rows"][0]["n"])

    def _settings(self) -> dict[str, str]:
        node = free_port()
        return {
            "RESTATE_BASE_DIR": str(self.folder / "data"),
            "RESTATE_LISTEN_MODE": "tcp",
            "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node}",
            "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{node}/",
            "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{self.port}",
            "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{self._admin}",
            "RESTATE_DEFAULT_NUM_PARTITIONS": PARTITIONS,
            "RESTATE_ADMIN__DISABLE_WEB_UI": "true",
            "RESTATE_DISABLE_TELEMETRY": "true",
            "RESTATE_LOG_FILTER": "warn",
            "DO_NOT_TRACK": "1",
        }
