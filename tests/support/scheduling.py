"""Which test files run in the same test process."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

#: Fixtures of tests/system with the files that share their processes.
SHARED_PROCESSES = {
    "stack": (
        "test_faces",
        "test_jobs",
        "test_ledger_commands",
        "test_notifications",
        "test_readme",
        "test_sockets",
    ),
    "own": ("test_archive", "test_deaths", "test_isolation"),
    "unpolled": ("test_bulk", "test_forged", "test_redis_away"),
}
#: Folders whose files share processes.
SHARING_FOLDERS = ("tests/dashboard/",)
#: Path of such a file -> the fixture.
_FIXTURE_OF = {
    f"tests/system/{name}.py": fixture
    for fixture, names in SHARED_PROCESSES.items()
    for name in names
}


class SharedProcessScheduling(LoadFileScheduling):  # type: ignore[misc]  # it has no types
    """Keeps the tests of a file together, and the files that share processes."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        shared = next((folder for folder in SHARING_FOLDERS if path.startswith(folder)), path)
        return _FIXTURE_OF.get(path, shared)
