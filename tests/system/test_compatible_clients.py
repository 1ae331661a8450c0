"""The official clients of OpenAI, Google and Vercel, through a network that loses answers.

Whatever is lost, refused or cut: the client gets its image, and the provider gets one submission.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from time import time

import pytest

from orchestrator.cli.stack import ROOT
from orchestrator.security.secret import Secret
from orchestrator.security.standard_webhooks import headers, new_secret
from tests.support import javascript
from tests.system.conftest import WAIT_SECONDS, Client
from tests.system.faulty_proxy import Fault, FaultyProxy

MODEL = "hiapi/Nano-Banana-2"
#: What happens to the first requests of a call. Each client makes three at most.
NETWORKS: Mapping[str, tuple[Fault, ...]] = {
    "whole": (),
    "refusing": (Fault.REFUSED_429, Fault.REFUSED_503),
    "cut": (Fault.CUT_IN_MID_WAIT, Fault.ANSWER_LOST),
    "failing": (Fault.ANSWERED_500, Fault.ANSWER_LOST),
}
SCRIPT = javascript.SOURCES / "clients.mjs"
#: The clients of tests/system/python_clients.py.
IN_PYTHON = ("openai", "google-genai")
IN_JAVASCRIPT = (
    *("openai", "openai stream", "genai"),
    *("ai openai", "ai openai-compatible", "ai google"),
)
#: Google's client in Vercel's kit makes images only with models that have such a name.
NAMES = {"ai google": "gemini-3-pro-image-preview"}


@pytest.fixture(scope="module")
def client(stack: object) -> Client:
    return Client(stack)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def proxy(client: Client) -> Iterator[FaultyProxy]:
    with FaultyProxy(client.stack.web_url, lambda prompt: bool(client.tasks(prompt))) as running:
        yield running


def prompt_of(language: str, name: str, network: str) -> str:
    return f"{language} {name} in a {network} network"


@pytest.fixture(scope="module")
def script(client: Client, proxy: FaultyProxy) -> Iterator[subprocess.Popen[str] | None]:
    """The calls in JavaScript. They run while the calls in Python do. None: npm is missing."""
    folder = javascript.installed()
    if folder is None:
        yield None
        return
    calls = []
    for name in IN_JAVASCRIPT:
        for network, faults in NETWORKS.items():
            prompt = prompt_of("javascript", name, network)
            proxy.plan(prompt, faults)
            calls.append(
                {
                    "client": name,
                    "url": proxy.url,
                    "key": client.stack.api_key,
                    "model": NAMES.get(name, MODEL),
                    "prompt": prompt,
                    "timeout": int(WAIT_SECONDS * 1000),
                }
            )
    file = folder / SCRIPT.name
    file.write_bytes(SCRIPT.read_bytes())  # it imports the packages beside it
    with subprocess.Popen(
        [javascript.node(), file, json.dumps(calls)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        yield running
        running.kill()


@pytest.fixture(scope="module")
def in_python(client: Client, proxy: FaultyProxy, script: object) -> dict[str, int | str]:
    """The bytes or the error of each call, by its prompt. All calls run at the same time."""
    clients = import_module("tests.system.python_clients").CLIENTS
    calls = {
        prompt_of("python", name, network): (clients[name], faults)
        for name in IN_PYTHON
        for network, faults in NETWORKS.items()
    }

    def result(prompt: str) -> int | str:
        call, faults = calls[prompt]
        proxy.plan(prompt, faults)
        try:
            return int(call(proxy.url, client.stack.api_key, MODEL, prompt))
        except Exception as error:  # noqa: BLE001  # the test shows it
            return repr(error)

    with ThreadPoolExecutor(len(calls)) as threads:
        return dict(zip(calls, threads.map(result, calls), strict=True))


@pytest.fixture(scope="module")
def in_javascript(script: subprocess.Popen[str] | None) -> dict[str, int | str]:
    """The same, in JavaScript."""
    if script is None:
        pytest.skip(javascript.missing())
    stdout, stderr = script.communicate()
    assert script.returncode == 0, stderr
    results = map(json.loads, stdout.splitlines())
    return {each["prompt"]: each.get("bytes") or each["error"] for each in results}


def check(
    client: Client, proxy: FaultyProxy, results: Mapping[str, int | str], prompt: str
) -> None:
    assert isinstance(results[prompt], int), results[prompt]
    assert proxy.left(prompt) == []
    assert len(client.tasks(prompt)) == 1, "the provider is paid once"


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", IN_PYTHON)
def test_a_python_client_gets_its_image_and_pays_once(
    client: Client,
    proxy: FaultyProxy,
    in_python: Mapping[str, int | str],
    name: str,
    network: str,
) -> None:
    check(client, proxy, in_python, prompt_of("python", name, network))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", IN_JAVASCRIPT)
def test_a_javascript_client_gets_its_image_and_pays_once(
    client: Client,
    proxy: FaultyProxy,
    in_javascript: Mapping[str, int | str],
    name: str,
    network: str,
) -> None:
    check(client, proxy, in_javascript, prompt_of("javascript", name, network))


def test_a_client_that_gives_up_gets_its_image_later(client: Client) -> None:
    """The job takes longer than the client waits. Its next call joins the job."""
    openai = import_module("openai")
    prompt = "a client that gives up"
    key = client.stack.api_key
    with openai.OpenAI(base_url=f"{client.stack.web_url}/v1", api_key=key, timeout=0.6) as hasty:
        with pytest.raises(openai.InternalServerError) as gave_up:
            hasty.images.generate(model=MODEL, prompt=prompt)
        assert gave_up.value.code == "job_still_open"
        answer = hasty.with_options(timeout=WAIT_SECONDS).images.generate(
            model=MODEL, prompt=prompt
        )

    assert answer.data
    assert len(client.tasks(prompt)) == 1


def test_openais_library_verifies_our_notifications() -> None:
    openai = import_module("openai")
    secret, body = new_secret(), b'{"type":"job.succeeded"}'
    sent = headers((Secret(secret),), "msg_job_1", int(time()), body)
    with openai.OpenAI(api_key="not used") as client:
        client.webhooks.verify_signature(body, sent, secret=secret)
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.verify_signature(body + b" ", sent, secret=secret)


@pytest.mark.parametrize("page", ["openai", "gemini"])
def test_the_example_of_the_page_runs(
    client: Client, page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (Path(ROOT) / "docs" / f"{page}.md").read_text("utf-8")
    example = text.partition("```python\n")[2].partition("```")[0]
    for there, here in {
        "http://127.0.0.1:8080": client.stack.web_url,
        "dev-key-of-this-machine": client.stack.api_key,
    }.items():
        assert there in example
        example = example.replace(there, here)

    exec(compile(example, page, "exec"), {})

    assert capsys.readouterr().out.strip()
