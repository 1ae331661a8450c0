"""Runs the checks of `orchestrator doctor` in the background, and keeps their results a minute.

The results are in Redis, so every web process shows them. One examination runs at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

from orchestrator import log
from orchestrator.jsonio import dump, parse
from orchestrator.ledger import LedgerUnavailable
from orchestrator.operations.doctor import CheckResult, examine
from orchestrator.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Examination:
    """The results so far.

    Attributes:
        running: whether more results come.
        began_at: ms.
        results: in the order in which problems should be corrected.
    """

    running: bool
    began_at: int
    results: tuple[CheckResult, ...] = ()


def last_examination(runtime: Runtime) -> Examination | None:
    """Return the examination that runs, or that ended within the last minute.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    text = runtime.ledger.installation.examination()
    if text is None:
        return None
    stored = parse(text)
    results = tuple(CheckResult(**each) for each in stored["results"])
    return Examination(stored["running"], stored["began_at"], results)


def start_examination(
    runtime: Runtime, checks: Callable[[], Iterable[CheckResult]] = examine
) -> threading.Thread | None:
    """Start an examination. Return its thread, or None: another one is running.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    installation, new = runtime.ledger.installation, Examination(True, runtime.clock())
    if not installation.begin_examination(_stored(new)):
        known = last_examination(runtime)
        if known is not None and known.running:
            return None
        installation.record_examination(_stored(new))
    thread = threading.Thread(
        target=_run, args=(runtime, new.began_at, checks), name="examination", daemon=True
    )
    thread.start()
    return thread


def _run(runtime: Runtime, began_at: int, checks: Callable[[], Iterable[CheckResult]]) -> None:
    results: list[CheckResult] = []

    def record(*, running: bool) -> None:
        text = _stored(Examination(running, began_at, tuple(results)))
        runtime.ledger.installation.record_examination(text)

    try:
        try:
            for result in checks():
                results.append(result)
                record(running=True)
        except LedgerUnavailable:
            raise
        except Exception as error:  # noqa: BLE001  # the page must say that it broke off
            log.get().exception("examination_crashed", error=type(error).__name__)
            found = f"a check broke off with {type(error).__name__}"
            results.append(CheckResult("doctor", "wrong", found, "run: orchestrator doctor"))
        record(running=False)
    except LedgerUnavailable as error:
        log.get().error("examination_lost", reason=str(error))


def _stored(examination: Examination) -> str:
    return dump(asdict(examination)).decode()
