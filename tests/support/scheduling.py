"""Which test files run in the same test process, and in which order they run."""

from __future__ import annotations

from collections.abc import Iterable

from xdist.scheduler import LoadFileScheduling

#: Groups of files that share running products, in the order in which they run. The groups of
#: `stack` run at the same time, each with a product of its own.
SHARED_PROCESSES = {
    "pages": (
        "tests/system/test_readme.py",
        "tests/system/test_page_commands.py",
    ),
    "clients": (
        "tests/system/test_client.py",
        "tests/system/test_compatible_clients.py",
        "tests/system/test_mcp.py",
    ),
    "calls": (
        "tests/system/test_faces.py",
        "tests/system/test_jobs.py",
        "tests/system/test_ledger_commands.py",
        "tests/system/test_notifications.py",
        "tests/system/test_proxy.py",
        "tests/system/test_rights.py",
        # Its jobs have the same provider task. So `orchestrator verify` fails after it.
        "tests/system/test_sockets.py",
    ),
    "archives": (
        "tests/system/test_archive.py",
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
#: Groups and files that mostly wait for processes, the longest first.
LONGEST = (
    *("calls", "clients", "pages", "site", "tests/system/test_deaths.py"),
    *("tests/system/test_life.py", "unpolled", "archives", "tests/system/test_chaos.py"),
    *("tests/system/test_commands.py", "tests/cluster/test_cluster.py"),
    *("tests/system/test_rabbitmq.py", "tests/deployment/test_backup.py"),
    *("tests/storage/test_bucket.py", "tests/history/test_recorder.py"),
    *("tests/api/test_openapi.py", "tests/deployment/test_alerts.py"),
    *("tests/storage/test_storage.py", "tests/deployment/test_packaging.py"),
    *("tests/system/test_waiting.py", "tests/docs/test_site.py"),
)
#: Path of such a file -> the group.
_GROUP_OF = {path: group for group, paths in SHARED_PROCESSES.items() for path in paths}


def scope(path: str) -> str:
    """Return the group of a file, or its path: one test process runs all of it."""
    return _GROUP_OF.get(path, path)


def positions(paths: Iterable[str]) -> dict[str, tuple[float, int]]:
    """Return when each file runs: files that wait between files that use the processor.

    A test process that has finished something takes the next. So most of them wait most of the
    time, and the others use the processor meanwhile.
    """
    scopes = list(dict.fromkeys(map(scope, paths)))
    long = [name for name in LONGEST if name in scopes]
    short = [name for name in scopes if name not in LONGEST]
    gap = len(short) / len(long) if long else 0
    starts = {name: float(number) for number, name in enumerate(short)}
    starts |= {name: number * gap - 0.5 for number, name in enumerate(long)}
    return {path: (starts[scope(path)], _place(path)) for path in paths}


def _place(path: str) -> int:
    """Return the place of a file in its group."""
    group = SHARED_PROCESSES.get(scope(path), (path,))
    return group.index(path)


class SharedProcessScheduling(LoadFileScheduling):  # type: ignore[misc]  # it has no types
    """Keeps the tests of a file together, and the files that share processes."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid.partition("::")[0])
