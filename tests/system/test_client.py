"""The wheel of the client, in an environment of its own, against the running stack."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from flask import Flask
from PIL import Image
from standardwebhooks import Webhook

import orchestrator_client
from orchestrator.cli.stack import ROOT
from orchestrator.security.standard_webhooks import new_secret
from tests.clients.kit import DONE
from tests.support.wheels import built_wheel, installed
from tests.system.conftest import WAIT_SECONDS, Client

PROJECT = ROOT / "clients" / "python"
#: What the wheel is built from.
SOURCES = ("orchestrator_client", "pyproject.toml", "README.md", "LICENSE")
EXAMPLES = re.findall(r"(?ms)^```python\n(.*?)^```", (PROJECT / "README.md").read_text("utf-8"))
REQUEST = {"provider": "hiapi", "model": "Nano-Banana-2"}


def example(mark: str) -> str:
    """The one example with `mark`."""
    found: str
    [found] = [text for text in EXAMPLES if mark in text]
    return found


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel."""
    files = [PROJECT / name for name in SOURCES]
    wheel = built_wheel(tmp_path_factory.mktemp("wheel"), *files)
    return installed(wheel, tmp_path_factory.mktemp("environment")) / "python"


def run(client: Client, python: Path, text: str, folder: Path) -> list[str]:
    """The lines that an example prints, with the address and key of the stack."""
    own = str(uuid4())
    for there, here in {
        "http://127.0.0.1:8080": client.stack.web_url,
        "dev-key-of-this-machine": client.stack.api_key,
        "order-4711": own,
        "catalogue-17": own,
    }.items():
        text = text.replace(there, here)
    done = subprocess.run(
        [python, "-P", "-c", text], cwd=folder, env={}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_wheel_has_one_package_and_its_types(python: Path) -> None:
    code = """
import orchestrator_client, json
from importlib.metadata import files, requires
from pathlib import Path
print(json.dumps({
    "file": orchestrator_client.__file__,
    "files": [str(file) for file in files("image-orchestrator-client")],
    "requires": requires("image-orchestrator-client"),
}))
"""
    done = subprocess.run([python, "-P", "-c", code], env={}, capture_output=True, check=True)
    found = json.loads(done.stdout)

    assert found["requires"] == ["httpx<1,>=0.28"]
    assert Path(found["file"]).is_relative_to(python.parents[1])
    tops = {file.partition("/")[0] for file in found["files"]}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"orchestrator_client"}
    assert "orchestrator_client/py.typed" in found["files"]


def test_it_enqueues_waits_and_downloads(client: Client, python: Path, tmp_path: Path) -> None:
    assert run(client, python, example("client.download"), tmp_path) == ["lighthouse.png"]
    with Image.open(tmp_path / "lighthouse.png") as image:
        image.verify()


def test_the_other_examples_run(client: Client, python: Path, tmp_path: Path) -> None:
    lines = run(client, python, example("AsyncClient"), tmp_path)
    assert [line.split()[1] for line in lines] == ["succeeded"] * 2
    *entries, last = run(client, python, example("client.batch"), tmp_path)
    assert [entry.split()[0] for entry in entries] == ["0", "1", "2"]
    assert last.startswith("completed {")
    [quoted] = run(client, python, example("client.quote"), tmp_path)
    assert quoted.startswith("True None (QuotedCost(")
    [violation] = run(client, python, example("violation.field"), tmp_path)
    assert violation.startswith("model ")


def test_calls_reach_the_api(client: Client, tmp_path: Path) -> None:
    """What the examples do not show."""
    key = str(uuid4())
    picture = tmp_path / "cat.png"
    Image.new("RGB", (64, 64), "teal").save(picture)
    with orchestrator_client.Client(client.stack.web_url, client.stack.api_key) as api:
        job = api.enqueue(
            provider="uniall",
            model="nano-banana-2",
            prompt="This cat, as a stamp",
            image_file=picture,
            metadata={"order": key},
            idempotency_key=key,
        )
        assert api.wait(job.id, timeout=WAIT_SECONDS).succeeded
        assert [each.id for each in api.list(metadata={"order": key})] == [job.id]
        with pytest.raises(orchestrator_client.Conflict):
            api.cancel(job.id)
        failed = api.enqueue(provider="hiapi", model="Nano-Banana-2", prompt="[sandbox: fail]")
        assert api.wait(failed.id, timeout=WAIT_SECONDS).error is not None
        assert api.retry(failed.id, accept_risk=True).id != failed.id
        with pytest.raises(orchestrator_client.IdempotencyMismatch):
            api.enqueue(provider="hiapi", model="Nano-Banana-2", prompt="A", idempotency_key=key)
        with pytest.raises(orchestrator_client.NotFound):
            api.get("job_" + "0" * 26)


def test_the_receiver_of_the_readme_verifies_notifications(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret, now = new_secret(), datetime.now(UTC)
    monkeypatch.setenv("NOTIFY_SECRET", secret)
    names: dict[str, Flask] = {"__name__": "receiver"}  # type: ignore[dict-item]
    exec(example("webhooks.unwrap"), names)
    body = json.dumps({"type": "job.succeeded", "timestamp": now.isoformat(), "data": DONE})
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", now, body),
    }
    caller = names["app"].test_client()
    answers = [
        caller.post("/hooks/images", data=each, headers=headers).status_code
        for each in (body, body, body + " ")
    ]

    assert answers == [204, 204, 401]
    assert capsys.readouterr().out == "job.succeeded job_1\n"
