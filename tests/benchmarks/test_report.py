"""Reports as tables, JSON and a picture."""

from __future__ import annotations

import json
from xml.etree import ElementTree

from benchmarks import chart
from benchmarks.flames import budget
from benchmarks.report import Report


def report() -> Report:
    made = Report("completions", "3 rounds of <2> jobs")
    made.add("jobs", "/s", {"ours": [500.0, 700.0, 600.0], "theirs": [300.0], "nobody": []})
    made.goal("ours to theirs:", 2.0, 1.1)
    made.missing.append("Restate: npm is not installed.")
    return made


def test_a_table_has_medians_spread_goals_and_what_is_missing() -> None:
    text = report().text()

    assert [line.split() for line in text.splitlines()[2:]] == [
        ["ours", "600", "/s", "(500", "to", "700)"],
        ["theirs", "300", "/s", "(300", "to", "300)"],
        ["reached:", "ours", "to", "theirs:", "2;", "goal:", "at", "least", "1.1"],
        ["not", "measured:", "Restate:", "npm", "is", "not", "installed."],
    ]


def test_a_missed_goal_is_named() -> None:
    missed = report()
    missed.goal("CPU in us:", 1700, 1600, at_least=False)

    assert not missed.reached
    assert "MISSED: CPU in us: 1,700; goal: at most 1,600" in missed.text()


def test_the_picture_is_drawn_from_the_json() -> None:
    values = json.loads(json.dumps(report().to_json()))
    picture = ElementTree.fromstring(chart.svg([values]))
    texts = ["".join(each.itertext()) for each in picture.iter("{http://www.w3.org/2000/svg}text")]

    assert texts[:3] == ["completions: 3 rounds of <2> jobs", "jobs, /s", "ours"]
    assert "600 /s (500 to 700)" in texts


def test_a_budget_counts_each_sample_for_its_innermost_known_part() -> None:
    stacks = """\
run (/x/celery/app.py:1);submit (/x/orchestrator/steps/submit.py:2);dumps (/x/json/encoder.py:3) 4
run (/x/celery/app.py:1);evalsha (/x/redis/client.py:7) 3
run (/x/celery/app.py:1);evalsha (/x/redis/client.py:9) 2
<module> (/x/__main__.py:1) 1
a name that was broken (/x/
"""
    assert budget(stacks) == {"steps": 4, "Redis client": 5, "other": 1}
