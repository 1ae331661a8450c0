"""`orchestrator drain`: waits until an installation has nothing to do."""

from __future__ import annotations

import sys
import threading
from time import monotonic

import click

from orchestrator.cli.number_options import Number
from orchestrator.cli.output import LINE_SECONDS, actor, as_json, line, print_json
from orchestrator.operations.drain import Remaining, pause_all, remaining
from orchestrator.runtime import default_runtime

#: Time between two looks. Nothing must be left at two looks in a row. Seconds.
LOOK_SECONDS = 1.0


@click.command()
@click.option(
    "--pause",
    "pauses",
    is_flag=True,
    help="Pause all providers first. Queued jobs and messages then stay where they are.",
)
@click.option(
    "--timeout",
    type=Number(min=0),
    metavar="SECONDS",
    help="Give up after this time. Without it, the command waits for ever.",
)
@as_json
def drain(pauses: bool, timeout: float | None, json_: bool) -> None:
    """Wait until nothing is open or in flight: jobs, archives, notifications, messages.

    \b
    orchestrator drain --timeout 600
    orchestrator drain --pause --timeout 300      before a maintenance
    orchestrator resume hiapi                     after it, for each provider

    Nothing is cancelled, and new jobs are still accepted. With --pause no further job is submitted,
    and the command waits for what is in flight only. The pauses stay, also when it gives up.
    Exit status 0 only when nothing is left; 1 after the time-out.
    """
    runtime, started = default_runtime(), monotonic()
    paused = pause_all(runtime, actor=actor()) if pauses else []
    if paused:
        line(f"Paused: {', '.join(paused)}", err=True)
    pause, calm, shown, shown_at = threading.Event(), 0, "", 0.0
    while True:
        seen = remaining(runtime)
        calm = 0 if seen.left(paused=pauses) else calm + 1
        passed = monotonic() - started
        if calm == 2 or (timeout is not None and passed >= timeout):
            break
        text = _text(seen, pauses=pauses)
        if (
            not json_
            and not calm
            and text != shown
            and (monotonic() - shown_at >= LINE_SECONDS or not shown)
        ):
            line(text, err=True)
            shown, shown_at = text, monotonic()
        pause.wait(LOOK_SECONDS if timeout is None else min(LOOK_SECONDS, timeout - passed))
    drained = calm > 0
    if json_:
        print_json(_view(seen, drained=drained, seconds=passed, paused=paused, pauses=pauses))
    else:
        left = f"Gave up after {passed:.0f} s. {_text(seen, pauses=pauses)}"
        line(f"Drained in {passed:.0f} s." if drained else left)
    sys.exit(0 if drained else 1)


def _text(seen: Remaining, *, pauses: bool) -> str:
    left = seen.left(paused=pauses)
    counts = [
        f"{name.replace('_', ' ')}: {'unknown' if count is None else count}"
        for name, count in left.items()
    ]
    return f"Left: {', '.join(counts) or 'nothing'}"


def _view(
    seen: Remaining, *, drained: bool, seconds: float, paused: list[str], pauses: bool
) -> dict[str, object]:
    return {
        "drained": drained,
        "seconds": round(seconds, 3),
        "paused": paused,
        "left": seen.left(paused=pauses),
        "queued": seen.queued,
    }
