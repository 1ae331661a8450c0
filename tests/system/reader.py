"""Somebody who follows a page in a shell."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from orchestrator.cli.ports import free_port
from orchestrator.cli.stack import ROOT
from tests.docs.commands import command_blocks
from tests.docs.pages import DocPage
from tests.system.conftest import TENANTS, Client

#: A block that takes longer runs until somebody stops it. It needs a comment that it is not run.
BLOCK_SECONDS = 300


class Reader:
    """Somebody who follows a page in a shell.

    Args:
        client: of the stack.
        folder: where the shell is.
    """

    def __init__(self, client: Client, folder: Path) -> None:
        self.client, self.folder, self.shop_port = client, folder, free_port()
        self.shop_log = folder / "shop.log"
        python_path = os.pathsep.join([str(ROOT / "clients/python"), str(ROOT)])
        self.env = {
            **client.stack.env,
            "PYTHONPATH": python_path,
            "IMAGES_URL": client.stack.web_url,
        }
        (folder / "examples").symlink_to(ROOT / "examples")

    def follow(self, path: str) -> str:
        """Run the commands of a page in one shell. Return what they print."""
        blocks = command_blocks(DocPage(path))
        return self.run("\n".join(block.script for block in blocks if block.is_run))

    def run(self, script: str) -> str:
        """Run commands that must succeed. Return what they print."""
        done = self.shell(script)
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return done.stdout

    def shell(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run commands with the addresses and the key of the stack. Questions are answered yes."""
        stack = self.client.stack
        for there, here in {
            "http://127.0.0.1:8080": stack.web_url,
            "http://127.0.0.1:8200": f"http://127.0.0.1:{self.shop_port}",
            "dev-key-of-this-machine": stack.api_key,
            # A new key is known by every process after 5 s.
            "Bearer $IMAGES_KEY": f"Bearer {TENANTS['shop']}",
        }.items():
            script = script.replace(there, here)
        return subprocess.run(
            ["sh", "-euc", script],
            cwd=self.folder,
            env=self.env,
            input="y\n" * 10,
            capture_output=True,
            text=True,
            check=False,
            timeout=BLOCK_SECONDS,
        )
