"""Which test files run in the same test process."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

#: Fixtures with the files that share their processes, in the order in which they run.
SHARED_PROCESSES = {
    "stack": (
        "tests/system/test_client.py",
        "tests/system/test_compatible_clients.py",
        "tests/system/test_faces.py",
        "tests/system/test_jobs.py",
        "tests/system/test_ledger_commands.py",
        "tests/system/test_mcp.py",
        "tests/system/test_notifications.py",
        "tests/system/test_proxy.py",
        "tests/system/test_readme.py",
        "tests/system/test_rights.py",
        "tests/system/test_page_commands.py",
        # Its jobs have the same provider task. So `orchestrator verify` fails after it.
        "tests/system/test_sockets.py",
    ),
    "own": (
        "tests/system/test_archive.py",
        "tests/system/test_deaths.py",
        "tests/system/test_isolation.py",
    ),
    "unpolled": (
        "tests/system/test_bulk.py",
        "tests/system/test_forged.py",
        "tests/system/test_redis_away.py",
    ),
    "site": (
        "tests/dashboard/test_job_browser.py",
        "tests/dashboard/test_jobs_browser.py",
        "tests/dashboard/test_kit.py",
        "tests/dashboard/test_money.py",
        "tests/dashboard/test_operation_browser.py",
        "tests/dashboard/test_overview.py",
        "tests/dashboard/test_page_costs.py",
        "tests/dashboard/test_views.py",
    ),
}
#: Path of such a file -> the fixture.
_FIXTURE_OF = {path: fixture for fixture, paths in SHARED_PROCESSES.items() for path in paths}


def position(path: str) -> int:
    """Return when a file runs among those that share its processes."""
    files = SHARED_PROCESSES.get(_FIXTURE_OF.get(path, ""), ())
    return files.index(path) if path in files else 0


class SharedProcessScheduling(LoadFileScheduling):  # type: ignore[misc]  # it has no types
    """Keeps the tests of a file together, and the files that share processes."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return _FIXTURE_OF.get(path, path)
