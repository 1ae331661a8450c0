"""A real Prometheus that scrapes one web process, from the program of Debian's package."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import yaml
from flask import Flask
from werkzeug.serving import BaseWSGIServer, make_server

from orchestrator.cli.ports import free_port
from orchestrator.cli.stack import ROOT
from tests.ledger.kit import eventually

#: The time between two scrapes.
SCRAPE_INTERVAL = "1s"


@dataclass(frozen=True)
class Prometheus:
    """A running server. It has our alerts."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series that an expression has now. It must be valid."""
        answer = requests.post(f"{self.url}/api/v1/query", {"query": expression}, timeout=60)
        body = answer.json()
        assert body["status"] == "success", (expression, body)
        found: list[dict[str, Any]] = body["data"]["result"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Return the alerts as the server has evaluated them last."""
        answer = requests.get(f"{self.url}/api/v1/rules", timeout=60).json()
        return [rule for group in answer["data"]["groups"] for rule in group["rules"]]


@contextmanager
def running(program: Path, folder: Path, target: str) -> Iterator[Prometheus]:
    """Run a server with the configuration of deploy/, which scrapes `target` often."""
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text("utf-8"))
    config["global"] = dict.fromkeys(config["global"], SCRAPE_INTERVAL)
    config["rule_files"] = [str(ROOT / "deploy/prometheus/alerts.yml")]
    [job] = config["scrape_configs"]
    job["scrape_timeout"] = SCRAPE_INTERVAL
    job["static_configs"] = [{"targets": [target]}]
    folder.mkdir()
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
    address = f"127.0.0.1:{free_port()}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
                "--log.level=warn",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            server = Prometheus(f"http://{address}")
            eventually(lambda: _is_ready(server, process, folder), every=0.1)
            yield server
        finally:
            process.terminate()
            process.wait()


@contextmanager
def web(app: Flask) -> Iterator[BaseWSGIServer]:
    """Serve an application over HTTP, in threads of this process."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _is_ready(server: Prometheus, process: subprocess.Popen[bytes], folder: Path) -> bool:
    assert process.poll() is None, (folder / "log").read_text("utf-8")
    try:
        return requests.get(f"{server.url}/-/ready", timeout=60).status_code == 200
    except requests.ConnectionError:
        return False
