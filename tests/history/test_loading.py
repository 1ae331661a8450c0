"""Which processes load SQLAlchemy. It takes a third of the start of a process."""

from __future__ import annotations

import subprocess
import sys

#: The entry points of processes that do not read the history when they start.
ENTRY_POINTS = "workers.app, workers.intake, webhooks.app, orchestrator.cli"


def test_a_process_that_does_not_read_the_history_loads_no_sql() -> None:
    code = f"import sys, {ENTRY_POINTS}; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert {"sqlalchemy", "alembic"}.isdisjoint(ran.stdout.split())
