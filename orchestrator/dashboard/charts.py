"""The data of charts, as `charts.js` draws them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.jobs.model import Status
from orchestrator.jsonio import dump
from orchestrator.operations.activity import Activity


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a chart.

    Attributes:
        label: its words in the legend.
        tone: its colour: a name of a `--chart-...` variable in the style sheet.
        values: one for each time; None is a gap.
        filled: whether the area below is filled.
    """

    label: str
    tone: str
    values: list[float | None]
    filled: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over time.

    Attributes:
        title: what is shown, with its unit.
        summary: the same in a sentence, for those who do not see it.
        data: JSON of the times (seconds since the epoch), the lines and the unit.
        lines: for the legend.
    """

    title: str
    summary: str
    data: str
    lines: list[Line]


def throughput(activity: Activity) -> Chart:
    """Return the jobs of each interval by outcome."""
    figures = activity.intervals.values()
    total = activity.total.statuses
    lines = [
        Line("created", "busy", [each.created for each in figures], filled=True),
        Line("succeeded", "good", [each.statuses[Status.SUCCEEDED] for each in figures]),
        Line("failed", "bad", [each.statuses[Status.FAILED] for each in figures]),
    ]
    summary = (
        f"{activity.total.created:,} jobs were created. {total[Status.SUCCEEDED]:,} succeeded,"
        f" and {total[Status.FAILED]:,} failed."
    )
    return _chart(f"Jobs per {_interval(activity)}", summary, activity, lines, unit="")


def times(activity: Activity) -> Chart:
    """Return the median and the 95th percentile of the times from creation to outcome."""
    figures = activity.intervals.values()
    lines = [
        Line("median", "busy", [each.seconds(0.5) for each in figures]),
        Line("95 % within", "warn", [each.seconds(0.95) for each in figures]),
    ]
    median, slow = activity.total.seconds(0.5), activity.total.seconds(0.95)
    summary = (
        "There is no outcome yet."
        if median is None
        else f"Half of the outcomes came within {median:g} s, and 95 % within {slow:g} s."
    )
    return _chart("Seconds from creation to outcome", summary, activity, lines, unit="s")


def _chart(title: str, summary: str, activity: Activity, lines: Iterable[Line], unit: str) -> Chart:
    shown = list(lines)
    data = {
        "times": [start // 1000 for start in activity.intervals],
        "lines": [
            {"label": x.label, "tone": x.tone, "values": x.values, "filled": x.filled}
            for x in shown
        ],
        "unit": unit,
    }
    return Chart(title, summary, dump(data).decode(), shown)


def _interval(activity: Activity) -> str:
    minutes = activity.interval_ms // 60_000
    if minutes == 1:
        return "minute"
    return f"{minutes} minutes" if minutes < 60 else f"{minutes // 60} hours"
