"""The quickstart and the tutorials, run as they stand against the running stack."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from orchestrator.cli.stack import ROOT, free_port
from tests.docs.commands import command_blocks
from tests.docs.pages import DocPage
from tests.support.command_server import command_server
from tests.system.conftest import TENANTS, Client, eventually


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the program `orchestrator`."""
    with command_server(tmp_path_factory.mktemp("programs")) as folder:
        yield folder


class Reader:
    """Somebody who follows a page in a shell.

    Args:
        client: of the stack.
        programs: the folder with `orchestrator`.
        folder: where the shell is.
    """

    def __init__(self, client: Client, programs: Path, folder: Path) -> None:
        self.client, self.folder, self.shop_port = client, folder, free_port()
        path = os.pathsep.join([str(programs), client.stack.env["PATH"]])
        python_path = os.pathsep.join([str(ROOT / "clients/python"), str(ROOT)])
        self.env = {
            **client.stack.env,
            "PATH": path,
            "PYTHONPATH": python_path,
            "IMAGES_URL": client.stack.web_url,
        }
        (folder / "examples").symlink_to(ROOT / "examples")

    def follow(self, path: str) -> str:
        """Run the commands of a page in one shell. Return what they print."""
        blocks = command_blocks(DocPage(path))
        return self.run("\n".join(block.script for block in blocks if block.is_run))

    def run(self, script: str) -> str:
        """Run commands with the addresses and the key of the stack. Return what they print."""
        stack = self.client.stack
        for there, here in {
            "http://127.0.0.1:8080": stack.web_url,
            "http://127.0.0.1:8200": f"http://127.0.0.1:{self.shop_port}",
            "dev-key-of-this-machine": stack.api_key,
        }.items():
            script = script.replace(there, here)
        done = subprocess.run(
            ["sh", "-euc", script],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return done.stdout


@pytest.fixture
def reader(client: Client, programs: Path, tmp_path: Path) -> Reader:
    return Reader(client, programs, tmp_path)


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
    with (reader.folder / "shop.log").open("wb") as log:
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
    eventually(lambda: (_page(shop) or "").count("<img") == 2)
    picture = requests.get(f"{shop}/orders/1/picture", timeout=60)
    assert picture.headers["Content-Type"] == "image/png"
    assert picture.content.startswith(b"\x89PNG")
    assert len(reader.client.tasks("A lighthouse at the shop")) == 1
