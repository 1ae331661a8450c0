"""The command: `python -m tests.chaos`."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from random import SystemRandom
from time import monotonic

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from orchestrator.cli.dev import stop_on_sigterm
from orchestrator.cli.number_options import Number, WholeNumber
from orchestrator.cli.output import console, print_json
from orchestrator.jsonio import dump
from tests.chaos.clients import ChaosClients
from tests.chaos.killer import Killer
from tests.chaos.plan import plan
from tests.chaos.report import evidence, print_report, report
from tests.chaos.run import ChaosRun

#: Where no terminal shows the bar, a line is printed every so often. Seconds.
LINE_EVERY = 15.0

_EPILOG = """\b
  python -m tests.chaos                                   a minute, any seed
  python -m tests.chaos --jobs 5000 --minutes 10          the long form
  python -m tests.chaos --jobs 300 --minutes 1 --seed 7   seed 7 again

The seed decides the jobs, which of them meet which fault, and the order and the gaps of the kills.
What it cannot repeat is how threads and processes overtake each other.
"""


@click.command(
    epilog=_EPILOG,
    context_settings={
        "show_default": True,
        "max_content_width": 100,
        "help_option_names": ["-h", "--help"],
    },
)
@click.option("--jobs", default=300, type=WholeNumber(1, 100_000), help="How many jobs.")
@click.option(
    "--minutes",
    default=1.0,
    type=Number(0.05, 600),
    help="How long they are enqueued and processes killed; the outcomes come some time later.",
)
@click.option("--seed", type=WholeNumber(0), help="Of a run to repeat.  [default: a new one]")
@click.option("--every", default=3.0, type=Number(0.5, 3600), help="Seconds between two kills.")
@click.option(
    "--redis-kills", default=2, type=WholeNumber(0, 1000), help="How often Redis is killed."
)
@click.option(
    "--deadline",
    default=60.0,
    type=Number(5, 3600),
    help="Seconds a job may take; each tenth job has a shorter time of its own.",
)
@click.option("--keep", is_flag=True, help="Keep logs and data, also if every promise was kept.")
@click.option("--json", "json_", is_flag=True, help="Print JSON, for programs.")
def main(
    *,
    jobs: int,
    minutes: float,
    seed: int | None,
    every: float,
    redis_kills: int,
    deadline: float,
    keep: bool,
    json_: bool,
) -> None:
    """Enqueue jobs at all providers, kill whatever runs, and hold the outcome to the promise.

    Real processes: Redis with an append-only file, web, worker, beat, and the sandbox that plays
    the providers. Callbacks are dropped, repeated, early, contradicted and forged; submissions are
    refused, broken off and unanswered; image links and callers fail. web, worker and beat are
    killed (SIGKILL) in turn every few seconds, Redis now and then. At the end no job may be lost,
    paid for twice, or settled twice, every image has to be in the archive, and every caller told,
    by what the API, the timelines, the archive's files, the sandbox's own accounts and inboxes, and
    `orchestrator verify --images` say.

    Exit status 0 if every promise was kept; else 1, and logs, data and evidence stay in a folder.
    """
    stop_on_sigterm()
    seed = SystemRandom().randrange(10**6) if seed is None else seed
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-"))
    wanted = plan(
        seed=seed,
        jobs=jobs,
        minutes=minutes,
        every=every,
        redis_kills=redis_kills,
        deadline=deadline,
    )
    errors = Console(stderr=True, highlight=False)
    errors.print(f"seed {seed}; logs and data in {folder}")
    with _Progress(errors, jobs) as progress:
        result = ChaosRun(wanted, folder, progress.show).play()
    told = report(result)
    (folder / "report.json").write_bytes(dump(told))
    (folder / "evidence.json").write_bytes(dump(evidence(result)))
    if json_:
        print_json(told)
    else:
        print_report(told, console())
    if told["ok"] and not keep:
        shutil.rmtree(folder)
    else:
        errors.print(f"\nlogs, data, report.json and evidence.json are in {folder}")
    if not told["ok"]:
        sys.exit(1)


class _Progress:
    """A bar on a terminal, a line now and then elsewhere; on standard error."""

    def __init__(self, out: Console, jobs: int) -> None:
        self._out, self._jobs, self._said = out, jobs, 0.0
        columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self._bar = Progress(*columns, console=out, transient=True, disable=not out.is_terminal)
        self._task = self._bar.add_task("starting", total=jobs)

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, clients: ChaosClients, killer: Killer, doing: str) -> None:
        """Tell how it goes."""
        kills = ", ".join(f"{number} {name}" for name, number in killer.kills.items())
        said = f"{clients.placed} enqueued, {clients.done} done, killed {kills or 'none'}: {doing}"
        self._bar.update(self._task, completed=clients.done, description=said)
        if not self._out.is_terminal and monotonic() - self._said > LINE_EVERY:
            self._said = monotonic()
            self._out.print(said)


if __name__ == "__main__":
    main(prog_name="python -m tests.chaos")
