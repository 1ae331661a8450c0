"""The commands of the pages, run as they stand against the running stack."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import requests

from orchestrator.cli.ports import free_port
from orchestrator.cli.stack import ROOT
from tests.docs.commands import command_blocks
from tests.docs.test_pages import PAGES
from tests.system.conftest import TENANTS, Client, eventually
from tests.system.reader import Reader


@pytest.fixture
def reader(client: Client, tmp_path: Path) -> Reader:
    return Reader(client, tmp_path)


def test_the_quickstart(reader: Reader) -> None:
    printed = reader.follow("docs/quickstart.md")
    assert "Idempotent-Replay: true".lower() in printed.lower()
    assert (reader.folder / "lighthouse.png").stat().st_size > 100


def test_a_batch_is_interrupted_and_makes_no_second_job(reader: Reader) -> None:
    reader.follow("docs/tutorials/catalogue.md")
    url = f"{reader.client.stack.web_url}/v1/jobs"
    found = requests.get(
        url, {"tenant": "catalogue", "limit": "200"}, headers=reader.client.headers, timeout=60
    )
    skus = [job["metadata"]["sku"] for job in found.json()["jobs"]]
    assert sorted(skus) == [f"poster-{number:02d}" for number in range(1, 25)]
    assert ",evolink," in (reader.folder / "costs.csv").read_text("utf-8")


def test_customers_have_budgets_of_their_own(reader: Reader) -> None:
    printed = reader.follow("docs/tutorials/customers.md")
    assert len(re.findall(r"picture \d: job_", printed)) == 5 + 7
    assert "picture 6: daily_budget, again in " in printed
    assert "200\n404\n" in printed


@pytest.fixture
def shop(reader: Reader) -> Iterator[str]:
    """The address of the shop of the tutorial."""
    env = {
        **reader.env,
        "PORT": str(reader.shop_port),
        "IMAGES_KEY": TENANTS["shop"],  # a new key is known everywhere after 5 s
        "NOTIFY_SECRET": reader.client.stack.notify_secret,
    }
    url = f"http://127.0.0.1:{reader.shop_port}"
    with reader.shop_log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "examples/shop/shop.py"], cwd=reader.folder, env=env, stderr=log
        )
        try:
            eventually(lambda: _page(url) is not None)
            yield url
        finally:
            process.terminate()
            process.wait()


def _page(url: str) -> str | None:
    try:
        return requests.get(url, timeout=60).text
    except requests.ConnectionError:
        return None


def test_a_shop_shows_the_picture_of_each_order_once(reader: Reader, shop: str) -> None:
    order = {"number": "1", "prompt": "A lighthouse at the shop"}
    for _ in range(2):
        assert requests.post(f"{shop}/orders", order, timeout=60).status_code == 200
    printed = reader.follow("docs/tutorials/shop.md")
    assert "401\n" in printed
    try:
        eventually(lambda: (_page(shop) or "").count("<img") == 2)
    except AssertionError:
        log = [
            line for line in reader.shop_log.read_text("utf-8").splitlines() if "GET / " not in line
        ]
        raise AssertionError("\n".join([_page(shop) or "no page", *log])) from None
    picture = requests.get(f"{shop}/orders/1/picture", timeout=60)
    assert picture.headers["Content-Type"] == "image/png"
    assert picture.content.startswith(b"\x89PNG")
    assert len(reader.client.tasks("A lighthouse at the shop")) == 1


#: These pages are followed from the first to the last command by a test of their own.
FOLLOWED = ("docs/quickstart.md", "docs/tutorials/")
#: The other blocks that are run.
BLOCKS = [
    block
    for page in PAGES
    for block in command_blocks(page)
    if block.is_run and not page.path.startswith(FOLLOWED)
]
#: A job of a batch, and the filter of a bulk action.
JOB = {"provider": "hiapi", "model": "Nano-Banana-2", "prompt": "A page of a batch"}
RETRIED = {"status": "failed", "provider": "hiapi"}
#: An id of a job in a page.
JOB_IDS = r"(?<!\$)\bJOB_ID\b|job_01k[0-9a-z]+"
#: Written before the commands run: the files that they name.
FILES = {
    "prompts.csv": "prompt\nA lighthouse at dawn\nA lighthouse at dusk\n",
    "jobs.jsonl": '{"provider": "hiapi", "model": "Nano-Banana-2", "prompt": "A harbour"}\n',
    "alerts.yml": "runbook_url: docs/failures.md\n",
}


@pytest.fixture
def sandbox(reader: Reader) -> Iterator[str]:
    """The address of a sandbox of its own, because pages change its limits and faults."""
    port = free_port()
    with (reader.folder / "sandbox.log").open("wb") as log:
        command = [sys.executable, "-m", "sandbox", "--allow-http", "--port", str(port)]
        process = subprocess.Popen(command, env=reader.env, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            eventually(lambda: _page(f"{url}/healthz") is not None)
            yield url
        finally:
            process.terminate()
            process.wait()


def _is_notified(client: Client, job_id: str) -> bool:
    return bool(client.job(job_id)["notification"]["status"] == "done")


def _values(reader: Reader, sandbox: str) -> dict[str, str]:
    """Return what stands in the place of the examples of ids and addresses, by pattern."""
    stack, client = reader.client.stack, reader.client
    inbox = f"{stack.sandbox_url}/inbox/pages"
    [good, bad] = [
        client.enqueue("hiapi", prompt, notify_url=inbox)
        for prompt in ("A page", "A page [sandbox: fail]")
    ]
    key = reader.run("orchestrator keys create --tenant pages --json")
    batch = client.call("POST", "/v1/jobs/batch", {"jobs": [JOB]})["batch"]
    for job_id in (good, bad):
        client.outcome(job_id)
        eventually(partial(_is_notified, client, job_id))
    preview, started = [
        client.call("POST", "/v1/bulk", {"action": "retry", "filter": RETRIED, "dry_run": True})
        for _ in range(2)
    ]
    client.call("POST", "/v1/bulk", {"action": "retry", "preview": started["id"]})
    return {
        r"http://127\.0\.0\.1:8700": sandbox,
        r"https://images\.example\.com": stack.web_url,
        r"https://shop\.example\.com/hooks/\w+": inbox,
        r"order-47": f"{batch}-",
        r"retry JOB_ID": f"retry {bad} ",
        JOB_IDS: good,
        r"(?<!\$)\bBATCH_ID\b|batch_01k[0-9a-z]+": batch,
        r"\bBULK_ID\b": started["id"],
        r"bulk_01k[0-9a-z]+": preview["id"],
        r"key_5b0c17f0a9d2": json.loads(key)["id"],
        r"(--tenant|tenants set) shop": r"\1 pages",
        # A person answers a question instead.
        r"(?m)(bulk (?:retry|notify)(?:(?!--dry-run)[^\n#])+)$": r"\1 --yes",
    }


def test_the_other_pages(reader: Reader, sandbox: str) -> None:
    """A block that shall not be run has a comment with the reason above it."""
    for name, text in FILES.items():
        (reader.folder / name).write_text(text, "utf-8")
    values, failed = _values(reader, sandbox), []
    stack, job_id = reader.client.stack, values[JOB_IDS]
    reader.env.update(KEY=stack.api_key, URL=stack.web_url, JOB_ID=job_id)
    for block in BLOCKS:
        script = block.script
        for there, here in values.items():
            script = re.sub(there, here, script)
        done = reader.shell(script)
        if done.returncode != 0:
            failed.append(f"{block.page}:{block.line}: {done.stdout[-500:]}{done.stderr[-1000:]}")
    assert not failed, "\n".join(failed)
    assert len(BLOCKS) > 30


def test_a_block_that_is_not_run_has_a_reason_or_its_test() -> None:
    for page in PAGES:
        for block in command_blocks(page):
            named = re.findall(r"tests/\w+/test_\w+\.py|tests/test_\w+\.py", block.mark)
            assert block.is_run or block.mark.startswith(("not run: ", "run by tests/")), block
            assert [name for name in named if not (ROOT / name).exists()] == [], block
