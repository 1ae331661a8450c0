"""`python -m benchmarks [NAME ...]`: runs benchmarks, and exits with 1 when a goal is missed."""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from benchmarks import chart
from benchmarks.number_arguments import one_or_more
from benchmarks.report import Report, environment, progress
from orchestrator.cli.dev import stop_on_sigterm

#: The benchmarks with goals, in the order of a run. The text says what each one measures.
BENCHMARKS = {
    "completions": "whole jobs from enqueue to outcome, and the CPU time of each process",
    "concurrency": "submissions of one worker process when the provider takes its time",
    "comparison": "whole jobs of the product and of its peers: Restate, Celery by hand, DBOS",
    "kills": "jobs paid twice and lost by each system when its processes are killed",
    "enqueue": "single jobs and batches, compared with a bare flask-smorest route",
    "polls": "polls of jobs without a callback, and how late their results are seen",
    "receiver": "callbacks, compared with a minimal Flask route",
    "calls": "polls and submissions of one worker process, compared with pooled requests calls",
    "archive": "archives of images, compared with a bare download loop",
    "notify": "the time from a callback to the notification",
    "isolation": "what a provider that hangs costs the others",
    "fairness": "what a busy tenant costs another one",
    "memory": "the memory of a job in Redis beyond its request, in each state",
    "shards": "the CPU time of a job with one shard and with several, the recorder's included",
}


def main() -> int:
    """Run the chosen benchmarks."""
    stop_on_sigterm()
    arguments = _arguments()
    names = arguments.names or list(BENCHMARKS)
    folder: Path = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    print("Rates and times depend on the machine. Only ratios of one run can be compared.\n")
    reached, reports = [], []
    for name in names:
        began = perf_counter()
        progress(f"{name}: {BENCHMARKS[name]}")
        try:
            report = _run(name, arguments)
        except Exception:
            traceback.print_exc()
            reached.append(False)
        else:
            print(report.text(), flush=True)
            reports.append(report.to_json())
            reached.append(report.reached)
        progress(f"{name} took {perf_counter() - began:.0f} s")
    written = {**environment(), "reports": reports}
    (folder / "benchmarks.json").write_text(json.dumps(written, indent=1) + "\n", "utf-8")
    (folder / "benchmarks.svg").write_text(chart.svg(reports), "utf-8")
    (folder / "benchmarks.md").write_text(chart.markdown(reports), "utf-8")
    print(f"{folder} has all values: benchmarks.json, and as tables and bars: .md and .svg.")
    return 0 if all(reached) else 1


def _run(name: str, arguments: argparse.Namespace) -> Report:
    """Run a benchmark with those options that it has."""
    run: Callable[..., Report] = importlib.import_module(f"benchmarks.{name}").run
    wanted = {option: getattr(arguments, option) for option in ("jobs", "rounds")}
    known = inspect.signature(run).parameters
    return run(**{option: value for option, value in wanted.items() if value and option in known})


def _arguments() -> argparse.Namespace:
    epilog = "benchmarks:\n" + "\n".join(f"  {n:<14}{text}" for n, text in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure the product, and beside it the limit of each figure in the same run.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    for option, what in (("jobs", "jobs of a round"), ("rounds", "rounds of each measurement")):
        parser.add_argument(
            f"--{option}", type=one_or_more, help=f"{what}, where the benchmark has them"
        )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("build/benchmarks"),
        help="folder of the results; default: %(default)s",
    )
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in BENCHMARKS]:
        parser.error(f"NAME must be one of {', '.join(BENCHMARKS)}; got {unknown[0]}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
