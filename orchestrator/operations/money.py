"""Money by day, tenant and provider: charged, unknown, held by budgets, and at risk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from orchestrator.clock import DAY_MS, iso_date
from orchestrator.history import Query
from orchestrator.jobs.tenant import Tenant
from orchestrator.operations.unconfirmed import possible_charges, unconfirmed_attempts
from orchestrator.runtime import Runtime

if TYPE_CHECKING:
    from orchestrator.history.usage_query import CostSum

#: The decimals of an amount. Sums of fractions have more digits than a price has.
AMOUNT_DECIMALS = 6


@dataclass
class Spend:
    """The costs of the jobs that a tenant created in a day, at a provider.

    Attributes:
        day: in UTC, such as `2026-11-28`.
        unit: of the amounts; None: no job of the row has a known cost.
        reported: the costs that the provider reported.
        computed: the costs that were computed from a price table.
        unknown_jobs: jobs that the provider accepted and whose cost is not known.
    """

    day: str
    tenant: str
    provider: str
    unit: str | None
    reported: float = 0.0
    computed: float = 0.0
    unknown_jobs: int = 0

    @property
    def charged(self) -> float:
        """The known costs."""
        return round(self.reported + self.computed, AMOUNT_DECIMALS)


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """How much of a daily budget is used today.

    Attributes:
        unit: of the amounts.
        budget: the limit of a day.
        used: what the budget counts: the costs of ended jobs, and the expected costs of the others.
        reserved: the part of `used` that is not a known cost of a job of today. Open jobs hold it,
            and ended jobs with an unknown or a possible cost. It may be too low on a day on which
            the budget was set or changed, because the budget does not count earlier jobs.
    """

    tenant: str
    provider: str
    unit: str
    budget: float
    used: float
    reserved: float


@dataclass(frozen=True, slots=True)
class Money:
    """The money of an installation or of a tenant.

    Attributes:
        spend: newest day first, then by tenant and provider.
        budgets: the budgets of today. Without a budget, nothing is reserved.
        unconfirmed_attempts: attempts that may have been charged and have no known task. Of the
            newest attempts of the installation, at most MAX_ATTEMPTS are read for a tenant.
        at_risk: their possible cost: `amounts` by unit, and `unpriced` attempts.
    """

    spend: list[Spend]
    budgets: list[BudgetUse]
    unconfirmed_attempts: int
    at_risk: dict[str, Any]


def money(
    runtime: Runtime,
    tenant: str | None,
    days: int = 1,
    read: Callable[[range], Mapping[int, list[CostSum]]] | None = None,
) -> Money:
    """Return the money of today and of the days before it. A job counts on its day of creation.

    The cost grows with the jobs of these days, not with all jobs.

    Args:
        runtime: of this process.
        tenant: whose money; None is everybody's.
        days: from 1. The last one is today, in UTC.
        read: returns the costs of days, which are counted from 1970. It may have read some of them
            before. None: `read_days` does.

    Raises:
        HistoryUnavailable: the database does not answer, or no recorder has run.
        LedgerUnavailable: Redis is away.
    """
    now = runtime.clock()
    today = now // DAY_MS
    read = read or partial(read_days, runtime, tenant)
    rows = spend(chain.from_iterable(read(range(today + 1 - days, today + 1)).values()))
    charged = Counter[tuple[str, str, str | None]]()
    newest = iso_date(today)
    for row in rows:
        if row.day == newest:
            charged[row.tenant, row.provider, row.unit] += row.charged  # type: ignore[assignment]
    number, attempts = unconfirmed_attempts(runtime)
    if tenant is not None:
        attempts = [each for each in attempts if each.job and each.job.tenant == tenant]
        number = len(attempts)
    budgets = _budgets(runtime, tenant, charged, now)
    return Money(rows, budgets, number, possible_charges(runtime, attempts))


def read_days(runtime: Runtime, tenant: str | None, days: range) -> dict[int, list[CostSum]]:
    """Return the costs of the jobs of days that follow each other.

    Raises:
        HistoryUnavailable: the database does not answer, or no recorder has run.
    """
    now = runtime.clock()
    facet = {} if tenant is None else {"tenant": tenant}
    before = min(days.stop * DAY_MS, now + 1)
    query = Query(facet=facet, after=days.start * DAY_MS, before=before, now=now)
    names = {iso_date(day): day for day in days}
    found: dict[int, list[CostSum]] = {day: [] for day in days}
    for sum_ in runtime.history.cost_sums(query):
        found[names[sum_.day]].append(sum_)
    return found


def spend(sums: Iterable[CostSum]) -> list[Spend]:
    """Return the rows of a table of costs: newest day first, then by tenant and provider."""
    rows: dict[tuple[str, str, str, str | None], Spend] = {}
    for each in sums:
        key = (each.day, each.tenant, each.provider, each.unit)
        row = rows.setdefault(key, Spend(*key))
        match each.source:
            case "reported":
                row.reported += each.amount
            case "computed":
                row.computed += each.amount
            case _:
                row.unknown_jobs += each.jobs
    by_group = sorted(rows.values(), key=lambda row: (row.tenant, row.provider, row.unit or ""))
    return sorted(by_group, key=lambda row: row.day, reverse=True)


def _budgets(
    runtime: Runtime,
    tenant: str | None,
    charged: Mapping[tuple[str, str, str | None], float],
    now: int,
) -> list[BudgetUse]:
    access = runtime.ledger.access.current()
    tenants: list[Tenant] = (
        [access.tenants[name] for name in sorted(access.tenants)]
        if tenant is None
        else [access.tenant(tenant)]
    )
    uses = []
    for each in tenants:
        if not each.daily_budgets:
            continue
        spent = runtime.ledger.overview.spent(each.name, now=now)
        for provider, budget in sorted(each.daily_budgets.items()):
            used = spent.get((provider, budget.unit), 0.0)
            known = charged.get((each.name, provider, budget.unit), 0.0)
            reserved = round(max(0.0, used - known), AMOUNT_DECIMALS)
            uses.append(BudgetUse(each.name, provider, budget.unit, budget.amount, used, reserved))
    return uses
