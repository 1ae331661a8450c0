"""Shows reports as bars in one SVG file, for light and dark pages, and as tables in Markdown."""

from __future__ import annotations

from html import escape
from typing import Any

from benchmarks.report import number

#: Measures of the picture. Pixels.
WIDTH, LEFT, RIGHT, ROW, TITLE = 860, 330, 190, 22, 34
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .title { font-weight: 600; }
  .value, .group { fill: #59636e; }
  .bar { fill: #0969da; }
  .spread { stroke: #1f2328; stroke-width: 1.5; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; }
    .value, .group { fill: #9198a1; }
    .bar { fill: #4493f8; }
    .spread { stroke: #f0f6fc; }
  }
"""


def svg(reports: list[dict[str, Any]]) -> str:
    """Return a picture of reports in the form of `Report.to_json`. CPU times are left out."""
    parts: list[str] = []
    top = 10
    for report in reports:
        parts.append(_text(10, top + 18, f"{report['name']}: {report['title']}", "title"))
        top += TITLE
        groups = [each["group"] for each in report["series"]]
        for group in dict.fromkeys(name for name in groups if not name.startswith("CPU")):
            series = [each for each in report["series"] if each["group"] == group]
            parts.append(_text(10, top + 15, f"{group}, {series[0]['unit']}", "group"))
            parts += _bars(series, top + ROW)
            top += ROW * (len(series) + 1) + 6
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img">'
    title = "<title>Medians of each benchmark, with the lowest and the highest value</title>"
    return "\n".join([head, title, f"<style>{STYLE}</style>", *parts, "</svg>", ""])


def _bars(series: list[dict[str, Any]], top: int) -> list[str]:
    scale = (WIDTH - LEFT - RIGHT) / (max(max(each["values"]) for each in series) or 1)
    parts = []
    for row, each in enumerate(series):
        y, values = top + row * ROW, each["values"]
        low, high = LEFT + min(values) * scale, LEFT + max(values) * scale
        width = max(each["median"] * scale, 1)
        parts.append(_text(24, y + 15, each["label"]))
        parts.append(f'<rect class="bar" x="{LEFT}" y="{y + 4}" width="{width:.1f}" height="14"/>')
        if high - low >= 1:
            line = f'x1="{low:.1f}" x2="{high:.1f}" y1="{y + 11}" y2="{y + 11}"'
            parts.append(f'<line class="spread" {line}/>')
        spread = f" ({number(min(values))} to {number(max(values))})" if len(values) > 1 else ""
        text = f"{number(each['median'])} {each['unit']}{spread}"
        parts.append(_text(max(high, LEFT + width) + 6, y + 15, text, "value"))
    return parts


def _text(x: float, y: float, text: str, kind: str = "label") -> str:
    return f'<text class="{kind}" x="{x:.0f}" y="{y}">{escape(text)}</text>'


def markdown(reports: list[dict[str, Any]]) -> str:
    """Return one table for each report in the form of `Report.to_json`."""
    lines: list[str] = []
    for report in reports:
        lines += [f"**{report['name']}**: {report['title']}", ""]
        lines += ["| what | | median | lowest to highest |", "| --- | --- | --- | --- |"]
        for each in report["series"]:
            low, high = number(min(each["values"])), number(max(each["values"]))
            cells = (each["group"], each["label"], f"{number(each['median'])} {each['unit']}")
            lines.append(f"| {' | '.join(cells)} | {f'{low} to {high}' if low != high else ''} |")
        lines.append("")
        for goal in report["goals"]:
            bound = f"at {'least' if goal['at_least'] else 'most'} {number(goal['limit'])}"
            state = "reached" if goal["reached"] else "missed"
            lines.append(f"- {state}: {goal['text']} {number(goal['value'])}; goal: {bound}")
        lines += [*(f"- not measured: {what}" for what in report["missing"]), ""]
    return "\n".join(lines)
