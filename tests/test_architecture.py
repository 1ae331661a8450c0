"""Who may import whom: the contracts stand in pyproject.toml; here they are kept, and they bite."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("orchestrator", "workers", "webhooks", "sandbox")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages, to be broken."""
    folder = tmp_path_factory.mktemp("checkout")
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_every_import_contract_is_kept() -> None:
    told = lint(ROOT)

    assert told.returncode == 0, told.stdout + told.stderr
    assert "0 broken" in told.stdout


def test_each_forbidden_import_breaks_the_contract_that_names_it(checkout: Path) -> None:
    forbidden = {
        "Arrows point down": ("webhooks/receiver.py", "import workers.executor"),
        "The domain knows nothing above it": ("orchestrator/backoff.py", "import celery"),
        "The sandbox shares no code with the product": (
            "sandbox/state.py",
            "import orchestrator.clock",
        ),
        "Nothing that runs in production knows the sandbox": (
            "workers/executor.py",
            "import sandbox.state",
        ),
        "Only orchestrator.api knows Flask": ("orchestrator/enqueue.py", "import flask"),
        "Only orchestrator.ledger knows Redis": ("webhooks/app.py", "import redis"),
        "Only orchestrator.providers.client talks to providers": (
            "orchestrator/steps/poll.py",
            "import requests",
        ),
        "Only orchestrator.archive knows storage and Pillow": (
            "orchestrator/operations/rerun.py",
            "import PIL",
        ),
        "Storage and pictures stand alone": (
            "orchestrator/storage/folder.py",
            "import orchestrator.settings.settings",
        ),
        "Adapters are pure": (
            "orchestrator/providers/hiapi.py",
            "import orchestrator.providers.client",
        ),
    }
    for path, line in forbidden.values():
        file = checkout / path
        source = file.read_text("utf-8")
        first = source.index("\nfrom __future__") if "\nfrom __future__" in source else 0
        after = source.index("\n", first + 1)
        file.write_text(f"{source[:after]}\n{line}\n{source[after:]}", "utf-8")

    told = lint(checkout)

    summary = " ".join(told.stdout.partition("Broken contracts")[0].split())
    kept = [name for name in forbidden if not _broken(summary, name)]
    assert told.returncode == 1, told.stdout + told.stderr
    assert kept == [], told.stdout


def _broken(summary: str, contract: str) -> bool:
    said = summary.partition(contract)[2]
    return said.find("BROKEN") != -1 and (
        said.find("KEPT") == -1 or said.find("BROKEN") < said.find("KEPT")
    )
