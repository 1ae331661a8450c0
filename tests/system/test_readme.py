"""The README's examples, run as they stand, against the running stack instead of `dev`."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from uuid import uuid4

import pytest
from PIL import Image

from tests.system.conftest import Client, eventually

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README.read_text("utf-8"), re.DOTALL | re.MULTILINE)


#: Its path has this program: tests/support/fork_server.py.
PYTHON = "forked-python"


def example(language: str, mark: str) -> str:
    """The one block in a language that holds `mark`."""
    found: str
    [found] = [text for kind, text in BLOCKS if kind == language and mark in text]
    return found


def run(client: Client, text: str, *command: str, cwd: Path | None = None, **variables: str) -> str:
    """What an example prints, with the stack's addresses and a key and prompt of its own."""
    stack, own = client.stack, str(uuid4())
    for there, here in {
        "http://127.0.0.1:8080": stack.web_url,
        "Bearer dev-key-of-this-machine": f"Bearer {stack.api_key}",
        "order-47": f"{own}-",
        "A lighthouse at dusk": f"A lighthouse {own}",
    }.items():
        text = text.replace(there, here)
    done = subprocess.run(
        [*command, text],
        cwd=cwd,
        env={**os.environ, **stack.env, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout if "send_task" not in text else own


def test_curl_enqueues_and_waits(client: Client) -> None:
    enqueue, look = example("sh", "Idempotency-Key").strip().split("\n\n")
    job = json.loads(run(client, enqueue, "sh", "-c"))
    assert (job["status"], job["request"]["aspect_ratio"]) == ("queued", "16:9")
    done = json.loads(run(client, look, "sh", "-c", JOB_ID=job["id"]))
    assert done["status"] == "succeeded"


def test_curl_enqueues_the_provider_s_own_body(client: Client) -> None:
    job = json.loads(run(client, example("sh", '"request": {'), "sh", "-c"))
    assert client.outcome(job["id"])["status"] == "succeeded"


def test_curl_says_more_with_provider_options(client: Client) -> None:
    job = json.loads(run(client, example("sh", "provider_options"), "sh", "-c"))
    done = client.outcome(job["id"])
    assert (done["status"], len(done["images"])) == ("succeeded", 2)


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    """A folder with the picture that the examples hand over."""
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "cat.png")
    return tmp_path


def test_curl_and_the_command_hand_a_file_over(client: Client, cat: Path) -> None:
    curl, command = example("sh", "cat.png").strip().split("\n\n")
    job = json.loads(run(client, curl, "sh", "-c", cwd=cat))
    assert job["request"]["image_file"]["name"] == "cat.png"
    for job_id in (job["id"], run(client, command, "sh", "-c", cwd=cat).strip()):
        assert client.outcome(job_id)["status"] == "succeeded"


def test_python_hands_a_file_over(client: Client, cat: Path) -> None:
    printed = run(client, example("python", "cat.png"), PYTHON, "-c", cwd=cat)
    job_id, status = printed.split()
    assert status == "queued"
    assert client.outcome(job_id)["status"] == "succeeded"


def test_python_enqueues(client: Client) -> None:
    printed = run(client, example("python", "from orchestrator import enqueue, get"), PYTHON, "-c")
    job_id, status = printed.split()
    assert status in {"queued", "submitting", "running"}
    assert client.outcome(job_id)["status"] == "succeeded"


def test_celery_enqueues(client: Client) -> None:
    own = run(client, example("python", "send_task"), PYTHON, "-c")
    assert eventually(lambda: client.tasks(f"A lighthouse {own}"))


def test_every_link_leads_somewhere() -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)", README.read_text("utf-8")):
        assert (README.parent / link).exists()
