"""What a run prints: figures, and for each breach whose it is and what happened to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from orchestrator.cli.output import styled
from tests.chaos.archived import missing
from tests.chaos.judge import PROMISES, tally
from tests.chaos.notifications import by_job, may_wait, repeated, taken
from tests.chaos.run import RunResult

#: How many breaches of one promise are printed; the report in the folder has them all.
SHOWN = 10


def report(result: RunResult) -> dict[str, Any]:
    """Everything as JSON-ready data."""
    seen = result.evidence
    lost = [task for _, task in seen.unknown()]
    return {
        "ok": not result.breaches,
        "seed": result.plan.seed,
        "replay": result.plan.command,
        "jobs": len(seen.jobs),
        "tasks_charged": len(seen.tasks),
        "seconds": round(result.worked, 1),
        "seconds_in_all": round(result.took, 1),
        "jobs_per_second": round(len(seen.jobs) / result.worked, 1),
        **{name: dict(counts.most_common()) for name, counts in tally(seen).items()},
        "kills": result.kills,
        "redis_restarts": [
            {"away": r.away, "recovered": r.recovered, "ended": r.ended} for r in seen.restarts
        ],
        "api_answers": {str(s) if s else "none": n for s, n in sorted(result.answers.items())},
        "resubmitted": sum(bool(seen.named(job_id, "resubmitted")) for job_id in seen.jobs),
        "at_risk": {
            "attempts": len(seen.at_risk),
            "charged_for_nothing": len(lost),
            "money": _money(lost),
        },
        "images": {
            "in_manifests": sum(len(m["images"]) for m in seen.archive.manifests.values() if m),
            "compared": len(seen.originals),
            "lost_with_their_links": missing(seen),
            "half_written": len(seen.archive.halves),
        },
        "told": {
            "deliveries": len(seen.inbox),
            "failed_at_first": sum(not taken(sent) for sent in seen.inbox),
            "repeated": repeated(seen),
            "pending": sum(may_wait(job["notification"]) for _, job in seen.settled()),
        },
        "promises": {name: name not in {b.promise for b in result.breaches} for name in PROMISES},
        "breaches": [_breach(result, number) for number in range(len(result.breaches))],
    }


def evidence(result: RunResult) -> dict[str, Any]:
    """Every job with its timeline, and every provider task, as JSON-ready data."""
    seen = result.evidence
    jobs = [{**job, "events": seen.events.get(job_id, [])} for job_id, job in seen.jobs.items()]
    return {
        "jobs": jobs,
        "tasks": seen.tasks,
        "verification": seen.verification,
        "inbox": seen.inbox,
        "archive": asdict(seen.archive),
        "deaths": [asdict(death) for death in seen.deaths],
    }


def _breach(result: RunResult, number: int) -> dict[str, Any]:
    breach, seen = result.breaches[number], result.evidence
    job = seen.jobs.get(breach.whose)
    order = seen.orders[job["metadata"]["number"]] if job else None
    return {
        "promise": breach.promise,
        "whose": breach.whose,
        "why": breach.why,
        "job": job,
        "timeline": seen.events.get(breach.whose, []),
        "tasks": seen.tasks_of(order) if order else [],
        "told": by_job(seen)[breach.whose],
    }


def _money(tasks: list[dict[str, Any]]) -> dict[str, float]:
    sums: Counter[str] = Counter()
    for task in tasks:
        sums[task["charged"]["unit"]] += task["charged"]["amount"]
    return {unit: round(amount, 6) for unit, amount in sums.items()}


def print_report(told: Mapping[str, Any], out: Console) -> None:
    """The report for people."""
    table = Table.grid(padding=(0, 2))
    for title, value in _lines(told):
        table.add_row(styled(title, "bold"), value)
    out.print(table)
    out.print()
    marks = Table.grid(padding=(0, 2))
    for name, meaning in PROMISES.items():
        kept = told["promises"][name]
        marks.add_row(styled("kept", "green") if kept else styled("broken", "bold red"), meaning)
    out.print(marks)
    for name in PROMISES:
        _print_breaches([b for b in told["breaches"] if b["promise"] == name], out)


def _lines(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    risk = told["at_risk"]
    money = ", ".join(f"{amount:g} {unit}" for unit, amount in risk["money"].items()) or "nothing"
    restarts = [
        f"away {r['away']:.1f} s, sweeps back "
        + ("never" if r["recovered"] is None else f"after {r['recovered']:.1f} s")
        for r in told["redis_restarts"]
    ]
    return [
        ("seed", str(told["seed"])),
        ("jobs", f"{told['jobs']}, {told['tasks_charged']} provider tasks charged"),
        (
            "time",
            f"{told['seconds']:g} s, {told['jobs_per_second']:g} jobs/s;"
            f" {told['seconds_in_all']:g} s in all",
        ),
        ("outcomes", _counts(told["outcomes"])),
        ("by provider", _counts(told["providers"])),
        ("settled by", _counts(told["settled_by"])),
        ("kills", _counts(told["kills"])),
        ("Redis", "; ".join(restarts) or "not killed"),
        ("API answers", _counts(told["api_answers"])),
        ("events", _counts(told["events"])),
        ("callbacks", _counts(told["callbacks"])),
        ("faults", _counts(told["faults"])),
        (
            "at risk",
            f"{risk['attempts']} attempts; {risk['charged_for_nothing']} were charged: {money}",
        ),
        ("images", _counts({k.replace("_", " "): n for k, n in told["images"].items()})),
        ("told", _counts({k.replace("_", " "): n for k, n in told["told"].items()})),
        ("replay", told["replay"]),
    ]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items()) or "none"


def _print_breaches(breaches: list[dict[str, Any]], out: Console) -> None:
    for breach in breaches[:SHOWN]:
        out.print()
        why = f" {breach['whose']}: {breach['why']}"
        out.print(styled(breach["promise"], "bold red").append(why))
        for event in breach["timeline"]:
            out.print(f"  {event['at']} {event['event']} {event['detail']}", markup=False)
        for task in breach["tasks"]:
            out.print(f"  task {task['id']} {task['status']} {task['faults']}", markup=False)
            for sent in task["callbacks"]:
                answer = sent["status"] or sent["error"]
                out.print(f"    {sent['at']} {sent['kind']}: {answer}", markup=False)
        for sent in breach["told"]:
            out.print(f"  {sent['received_at']} told: {sent['status']}", markup=False)
    if len(breaches) > SHOWN:
        out.print(f"\n... and {len(breaches) - SHOWN} more of {breaches[0]['promise']}")
