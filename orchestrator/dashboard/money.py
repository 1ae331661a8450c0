"""Money: what was charged, what is reserved, and what nobody knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, request

from orchestrator.clock import DAY_MS
from orchestrator.dashboard import views
from orchestrator.dashboard.recent import Recent
from orchestrator.jobs.validation import InvalidRequest, OneOfNames, Violation
from orchestrator.operations.csv_text import csv_text
from orchestrator.operations.money import AMOUNT_DECIMALS, Money, Spend, money, read_days
from orchestrator.runtime import Runtime

if TYPE_CHECKING:
    from orchestrator.history.usage_query import CostSum

#: What a page may show: the number of days until today.
DAYS = (1, 7, 30, 90)
DEFAULT_DAYS = 7
#: The rows of a page. The file has all of them.
MAX_ROWS = 300
#: The columns of the file.
COLUMNS = ("day", "tenant", "provider", "unit", "reported", "computed", "unknown_jobs")


def add_to(pages: Blueprint, runtime: Runtime) -> None:
    """Add the routes."""
    recent = Recent[tuple[str | None, int], Money]()
    costs: Recent[tuple[str | None, int], list[CostSum]] = Recent()

    def read(tenant: str | None, days: range) -> dict[int, list[CostSum]]:
        now = runtime.clock()
        return costs.intervals(
            lambda day: (tenant, day),
            days,
            partial(read_days, runtime, tenant),
            lambda day: max(0, now - (day + 1) * DAY_MS) / 1000,
        )

    @pages.get("/money", endpoint="money")
    def show() -> Response:
        """The money of some days."""
        if answer := views.unchanged(runtime):
            return answer
        tenant, days = views.chosen_tenant(), _days()
        known = recent.get(
            (tenant, days), lambda: money(runtime, tenant, days, partial(read, tenant))
        )
        return views.render(
            "money",
            days=days,
            choices=DAYS,
            money=known,
            rows=known.spend[:MAX_ROWS],
            totals=totals(known.spend),
            unknown_jobs=sum(row.unknown_jobs for row in known.spend),
            shown_tenant=tenant,
            next_day=next_day,
        )

    @pages.get("/money.csv", endpoint="money_csv")
    def file() -> Response:
        """The same as CSV, with all rows."""
        days = _days()
        return _csv(money(runtime, views.chosen_tenant(), days), days)


def _csv(known: Money, days: int) -> Response:
    rows = ({name: _plain(getattr(row, name)) for name in COLUMNS} for row in known.spend)
    response = Response(csv_text(COLUMNS, rows), mimetype="text/csv")
    response.headers["Content-Disposition"] = f'attachment; filename="money-{days}d.csv"'
    return response


def _plain(value: Any) -> Any:
    """Return a value without the noise of binary fractions, such as 0.15000000000000002."""
    return round(value, AMOUNT_DECIMALS) if isinstance(value, float) else value


def next_day(day: str) -> str:
    """Return the day after a day."""
    return str(date.fromisoformat(day) + timedelta(days=1))


def totals(rows: Iterable[Spend]) -> dict[str, float]:
    """Return the known costs by unit."""
    sums: Counter[str] = Counter()
    for row in rows:
        if row.unit is not None:
            sums[row.unit] += row.charged  # type: ignore[assignment]
    return dict(sorted(sums.items()))


def _days() -> int:
    text = request.args.get("days", str(DEFAULT_DAYS))
    if text not in map(str, DAYS):
        raise InvalidRequest(Violation("days", text, OneOfNames(list(map(str, DAYS)))))
    return int(text)
