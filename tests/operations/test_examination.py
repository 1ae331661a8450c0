"""An examination by doctor, which runs in a thread of the server."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.operations.doctor import CheckResult
from orchestrator.operations.examination import last_examination, start_examination
from tests.support.fakes import Harness

GOOD = CheckResult("redis", "ok", "version 7")


def test_it_runs_until_the_last_check_has_ended(harness: Harness) -> None:
    seen = []

    def checks() -> Iterator[CheckResult]:
        for _ in range(2):
            yield GOOD
            known = last_examination(harness.runtime)
            assert known
            seen.append((known.running, len(known.results)))

    thread = start_examination(harness.runtime, checks)
    assert thread
    thread.join()

    last = last_examination(harness.runtime)
    assert seen == [(True, 1), (True, 2)]
    assert last
    assert (last.running, last.results) == (False, (GOOD, GOOD))
