"""The end of a worker."""

from __future__ import annotations

import os
from types import ModuleType

import pytest

from tests.support.fakes import Harness
from tests.support.worker_app import worker


@pytest.mark.parametrize(("left", "statuses"), [([], []), (["job-1"], [0])])
def test_a_worker_whose_steps_do_not_end_ends_without_them(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, left: list[str], statuses: list[int]
) -> None:
    workers: ModuleType = worker(harness, monkeypatch)
    ended: list[int] = []
    monkeypatch.setattr(workers, "_finish", lambda seconds: left)
    monkeypatch.setattr(os, "_exit", ended.append)

    workers._finish_steps()

    assert ended == statuses
