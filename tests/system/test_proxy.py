"""deploy/caddy/Caddyfile: a real Caddy with TLS in front of the stack's web process."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from orchestrator.cli.ports import free_port
from orchestrator.cli.stack import ROOT, Stack
from tests.support import debian
from tests.support.providers import EXAMPLE_MODELS
from tests.system.conftest import Client, eventually
from webhooks.receiver import MAX_LONG_BYTES

CADDYFILE = ROOT / "deploy/caddy/Caddyfile"


@dataclass(frozen=True)
class Proxy:
    """A running Caddy. It makes a certificate for `localhost` with an authority of its own."""

    url: str
    authority: Path
    log: Path


@contextmanager
def running(upstream: str, folder: Path) -> Iterator[Proxy]:
    program = debian.program("caddy")
    if program is None:
        pytest.skip(debian.missing("caddy"))
    port, log = free_port(), folder / "caddy.log"
    authority = folder / "caddy/pki/authorities/local/root.crt"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        "ORCHESTRATOR_PUBLIC_URL": f"https://localhost:{port}",
        "CADDY_UPSTREAM": upstream.removeprefix("http://"),
        "CADDY_BIND": "127.0.0.1",
        "CADDY_HTTP_PORT": str(free_port()),
    }
    config = ["--config", str(CADDYFILE), "--adapter", "caddyfile"]
    with log.open("wb") as output:
        caddy = subprocess.Popen(
            [program, "run", *config], env=environment, stdout=output, stderr=output
        )
        proxy = Proxy(f"https://localhost:{port}", authority, log)
        try:
            eventually(lambda: answers(caddy, proxy))
            yield proxy
        finally:
            caddy.terminate()
            caddy.wait()


def answers(caddy: subprocess.Popen[bytes], proxy: Proxy) -> bool:
    assert caddy.poll() is None, proxy.log.read_text("utf-8")
    try:
        requests.get(proxy.url, verify=str(proxy.authority), timeout=60)
    except OSError:  # no certificate yet, or nothing listens
        return False
    return True


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, stack: Stack) -> Iterator[Proxy]:
    with running(stack.web_url, tmp_path_factory.mktemp("caddy")) as one:
        yield one


@pytest.fixture
def secure(proxy: Proxy) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(proxy.authority)
        yield session


def test_a_job_is_enqueued_and_waited_for(
    client: Client, proxy: Proxy, secure: requests.Session
) -> None:
    fields = {"provider": "hiapi", "model": EXAMPLE_MODELS["hiapi"], "prompt": "behind a proxy"}
    answer = secure.post(f"{proxy.url}/v1/jobs", json=fields, headers=client.headers, timeout=60)
    assert answer.status_code == 202, answer.text
    job = secure.get(
        f"{proxy.url}/v1/jobs/{answer.json()['id']}?wait=50", headers=client.headers, timeout=60
    ).json()
    assert job["status"] == "succeeded"
    assert answer.headers["Strict-Transport-Security"]


def test_a_callback_goes_through(proxy: Proxy, secure: requests.Session) -> None:
    url = f"{proxy.url}/callbacks/hiapi/job_x.1/token"
    refused = secure.post(url, data=b"{}", timeout=60)
    assert (refused.status_code, refused.json()["detail"]) == (404, "not found")
    [largest] = re.findall(r"max_size (\d+)", CADDYFILE.read_text("utf-8"))
    assert int(largest) == MAX_LONG_BYTES


def test_the_figures_are_not_for_the_internet(proxy: Proxy, secure: requests.Session) -> None:
    assert secure.get(f"{proxy.url}/metrics", timeout=60).status_code == 404
    assert secure.get(f"{proxy.url}/healthz", timeout=60).status_code == 200


def test_the_path_of_a_callback_is_in_no_log(tmp_path: Path) -> None:
    with running(f"http://127.0.0.1:{free_port()}", tmp_path) as alone:
        for path in (
            "/callbacks/hiapi/job_x.1/secret",
            "/images/job_x/0/1/secret",
            "/references/secret/shop/x.png",
            "/link?token=secret",
            "/v1/jobs",
        ):
            answer = requests.post(
                f"{alone.url}{path}",
                headers={"Authorization": "Bearer secret"},
                verify=str(alone.authority),
                timeout=60,
            )
            assert answer.status_code == 502
        log = alone.log.read_text("utf-8")
    assert "/v1/jobs" in log
    assert all(f"/{name}/..." in log for name in ("callbacks", "images", "references", "link"))
    assert "secret" not in log
