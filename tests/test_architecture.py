"""The import contracts in pyproject.toml are kept, and each of them finds a violation."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("orchestrator", "workers", "webhooks", "sandbox")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a copy of the packages, to add violations to."""
    folder = tmp_path
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_every_import_contract_is_kept() -> None:
    result = lint(ROOT)

    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


FORBIDDEN = {
    "Processes import the domain": ("webhooks/receiver.py", "import workers.executor"),
    "The domain knows nothing above it": ("orchestrator/backoff.py", "import celery"),
    "The sandbox shares no code with the product": (
        "sandbox/state.py",
        "import orchestrator.clock",
    ),
    "No production process imports the sandbox": ("workers/executor.py", "import sandbox.state"),
    "Only the API and the dashboard import Flask": ("orchestrator/enqueuing.py", "import flask"),
    "Only orchestrator.ledger imports redis": ("webhooks/app.py", "import redis"),
    "Only orchestrator.net and the provider client import an HTTP library": (
        "orchestrator/steps/poll.py",
        "import requests",
    ),
    "Only orchestrator.storage imports obstore and Pillow": (
        "orchestrator/operations/rerun.py",
        "import PIL",
    ),
    "Only orchestrator.history imports SQLAlchemy and Alembic": (
        "orchestrator/operations/stats.py",
        "import sqlalchemy",
    ),
    "Storage knows bytes and paths, and no jobs": (
        "orchestrator/storage/folder.py",
        "import orchestrator.settings.settings",
    ),
    "Adapters are pure: data in, data out": (
        "orchestrator/providers/hiapi.py",
        "import orchestrator.providers.client",
    ),
}
#: One upward import for each pair of neighbouring layers: the importing file, the imported module.
UPWARD = {
    "orchestrator/api/answers.py": "orchestrator.dashboard.views",
    "orchestrator/steps/poll.py": "orchestrator.api.stats",
    "orchestrator/operations/archive_faults.py": "orchestrator.steps.poll",
    "orchestrator/enqueuing.py": "orchestrator.operations.archive_faults",
    "orchestrator/callbacks/spool.py": "orchestrator.enqueuing",
    "orchestrator/runtime.py": "orchestrator.callbacks.spool",
    "orchestrator/settings/environment.py": "orchestrator.runtime",
    "orchestrator/history/entry.py": "orchestrator.settings.environment",
    "orchestrator/ledger/codec.py": "orchestrator.history.entry",
    "orchestrator/providers/prices.py": "orchestrator.settings.environment",
    "orchestrator/jobs/uploads.py": "orchestrator.providers.prices",
    "orchestrator/security/tokens.py": "orchestrator.jobs.uploads",
    "orchestrator/clock.py": "orchestrator.security.tokens",
    # Neighbours in one layer do not import each other either.
    "orchestrator/cli/output.py": "orchestrator.api.answers",
    "orchestrator/net/guard.py": "orchestrator.storage.files",
}


def test_each_forbidden_import_breaks_the_contract_that_names_it(checkout: Path) -> None:
    for path, line in FORBIDDEN.values():
        add_import(checkout / path, line)

    result = lint(checkout)

    summary = " ".join(result.stdout.partition("Broken contracts")[0].split())
    kept = [name for name in FORBIDDEN if not _broken(summary, name)]
    assert result.returncode == 1, result.stdout + result.stderr
    assert kept == [], result.stdout


def test_every_upward_import_breaks_the_layers(checkout: Path) -> None:
    for path, module in UPWARD.items():
        add_import(checkout / path, f"import {module}")

    output = " ".join(lint(checkout).stdout.split())

    for path, module in UPWARD.items():
        importer = path.removesuffix(".py").replace("/", ".")
        assert f"{importer} -> {module} (" in output, importer


def test_a_module_outside_the_layers_breaks_the_contract(checkout: Path) -> None:
    (checkout / "orchestrator" / "helpers.py").write_text("", "utf-8")

    result = lint(checkout)

    assert result.returncode == 1
    assert "helpers" in result.stdout


def add_import(file: Path, line: str) -> None:
    """Add an import below the imports from __future__."""
    source = file.read_text("utf-8")
    first = source.index("\nfrom __future__") if "\nfrom __future__" in source else 0
    after = source.index("\n", first + 1)
    file.write_text(f"{source[:after]}\n{line}\n{source[after:]}", "utf-8")


def _broken(summary: str, contract: str) -> bool:
    rest = summary.partition(contract)[2]
    return rest.find("BROKEN") != -1 and (
        rest.find("KEPT") == -1 or rest.find("BROKEN") < rest.find("KEPT")
    )
