"""Whether the usage report says what happened, and what the sandbox charged."""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from sandbox import uniall
from sandbox.registry import PROVIDERS
from tests.chaos.evidence import Breach, Evidence

#: Price tables with the sandbox' prices, for the providers that report no cost.
_TABLES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    **{
        f"{provider.name.upper()}_PRICES": ("credits", {"*": prices})
        for provider in PROVIDERS
        if (prices := getattr(sys.modules[provider.__module__], "PRICES", None))
    },
    "UNIALL_PRICES": (
        "USD",
        {
            **uniall.NANO_PRICES,
            uniall.GPT_IMAGE: {s: uniall.GPT_PRICES[tier] for s, tier in uniall.TIERS.items()},
        },
    ),
}
SETTINGS = {
    name: json.dumps({"unit": unit, "prices": prices}) for name, (unit, prices) in _TABLES.items()
}
KNOWN = ("reported", "computed")
#: The figures of a row that count jobs or images.
COUNTS = ("jobs", "succeeded", "failed", "cancelled", "open", "images", "cost_unknown_jobs")


def figure_breaches(seen: Evidence) -> Iterator[Breach]:
    """Every figure that is wrong, and every cost that the sandbox did not charge."""
    yield from _charges(seen)
    expected = _expected(seen)
    reported: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in seen.usage:
        counts = {name: row[name] for name in COUNTS}
        cost = _rounded(row["cost_reported"] + row["cost_computed"])
        reported[row["provider"]].update({**counts, f"cost {row['unit']}": cost})
    for provider in sorted(expected.keys() | reported.keys()):
        right, told = +expected[provider], +reported[provider]
        for name in sorted(right.keys() | told.keys()):
            if _rounded(right[name]) != _rounded(told[name]):
                why = f"the report says {name} {told[name]}, and it is {right[name]}"
                yield Breach("figures", provider, why)


def _charges(seen: Evidence) -> Iterator[Breach]:
    charges = {task["id"]: _rounded(task["charged"]["amount"]) for task in seen.tasks}
    refunded = {task["id"] for task in seen.tasks if task["charged"].get("refunded")}
    for job in seen.jobs.values():
        cost = job["cost"]
        if cost is None or cost["source"] not in KNOWN:
            continue
        tasks = [attempt["task_id"] for attempt in job["attempts"]]
        own = [charges.get(task) for task in tasks]
        none = cost["amount"] == 0 and not refunded.isdisjoint(tasks)
        if _rounded(cost["amount"]) not in own and not none:
            why = f"it costs {cost['amount']}, and the sandbox charged {own}"
            yield Breach("figures", job["id"], why)


def _expected(seen: Evidence) -> defaultdict[str, Counter[str]]:
    expected: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for job in seen.jobs.values():
        figures, cost = expected[job["provider"]], job["cost"]
        figures["jobs"] += 1
        figures["open" if job["settled_at"] is None else job["status"]] += 1
        figures["images"] += len(job["images"]) + len(job.get("late_images", []))
        figures["cost_unknown_jobs"] += bool(cost and cost["source"] not in KNOWN)
        if cost and cost["source"] in KNOWN:
            figures[f"cost {cost['unit']}"] += cost["amount"]
    return expected


def _rounded(amount: float) -> Any:
    return round(amount, 4)
