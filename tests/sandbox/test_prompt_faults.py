"""How faults are read from a prompt."""

import pytest

from sandbox.answer_forms import ENCODINGS
from sandbox.catalogue import CATALOGUE
from sandbox.fault_kinds import Stage, ValueKind
from sandbox.faults import FaultError, read_prompt_faults
from sandbox.link_faults import LINK_KINDS
from sandbox.retry_after import RETRY_AFTER_FORMS
from sandbox.rule_spec import RuleSpec
from sandbox.rules import Rules, Submission
from tests.support.cases import for_each


def test_reads_faults_of_the_task() -> None:
    for text, task in [
        ("drop", {"drop": True}),
        (" drop , early ", {"drop": True, "early": True}),
        ("duplicate=5", {"duplicate": 5}),
        ("duplicate", {"duplicate": 2}),
        ("late=2", {"late": 2.0}),
        ("late=30s", {"late": 30.0}),
        ("late = 500ms", {"late": 0.5}),
        ("slow=1.5s", {"slow": 1.5}),
        ("slow=2m", {"slow": 120.0}),
        ("fail", {"fail": True}),
        ("fail=TASK_TIMEOUT", {"fail": "TASK_TIMEOUT"}),
        ("fail=content_policy", {"fail": "content_policy"}),
        ("image=404", {"image": "404"}),
        ("image = cut * 2 , slow=1", {"image": "cut*2", "slow": 1.0}),
        ("image=503/1500ms*3", {"image": "503/1.5s*3"}),
        ("image=slow / 2m", {"image": "slow/120s"}),
        ("thin_success", {"thin_success": "both*2"}),
        ("thin_success*5", {"thin_success": "both*5"}),
        ("thin_success=query/2s", {"thin_success": "query/2s"}),
        ("query=404/2s*3", {"query": "404/2s*3"}),
        (
            "odd_json, encoding=aws-chunked+gzip",
            {"odd_json": "bom", "encoding": "aws-chunked+gzip"},
        ),
    ]:
        prompt_faults = read_prompt_faults(f"A red cube [Sandbox:{text}] on a table")

        assert dict(prompt_faults.task) == task
        assert prompt_faults.submissions == ()


@for_each(
    ("text", "submissions"),
    [
        ("429", [("429", 1.0)]),
        ("429=7", [("429", 7.0)]),
        ("429=7*2", [("429", 7.0)] * 2),
        ("500*3", [("500", True)] * 3),
        ("429*2, lost_response", [("429", 1.0)] * 2 + [("lost_response", True)]),
        ("hang=2s * 2", [("hang", 2.0)] * 2),
        ("hang", [("hang", 60.0)]),
        ("402=200 * 2", [("402", "200")] * 2),
        ("429=past, 503", [("429", "past"), ("503", "missing")]),
    ],
)
def test_reads_faults_of_submissions_in_order(text: str, submissions: list[object]) -> None:
    assert list(read_prompt_faults(f"[sandbox: {text}]").submissions) == submissions


@pytest.mark.parametrize("prompt", ["A red cube", "sandbox: drop", "[sand box: drop]", ""])
def test_reads_no_faults_from_other_prompts(prompt: str) -> None:
    assert read_prompt_faults(prompt) == read_prompt_faults("")


def test_reads_the_first_block_only() -> None:
    assert set(read_prompt_faults("[sandbox: drop] [sandbox: early]").task) == {"drop"}


_NAME = "name, name=value or name*N"
_DURATION = "a time such as 2, 1.5s, 500ms or 2m, at most 86400s"
_COUNT = "a whole number from 1 to 100"
_KINDS = ", ".join(kind.syntax for kind in LINK_KINDS.values())
_LINK = f"one of {_KINDS}, optionally followed by *1 to *100"


def test_refuses_a_wrong_fault() -> None:
    for text, fault, allowed in [
        ("dorp", "dorp", ", ".join(kind.syntax for kind in CATALOGUE.values())),
        ("", "", _NAME),
        ("drop,", "", _NAME),
        ("a b c", "a b c", _NAME),
        ("drop=1", "drop", "drop without a value"),
        ("late", "late", "late=SECONDS"),
        ("late=soon", "late", _DURATION),
        ("late=-1", "late", _DURATION),
        ("late=86401", "late", _DURATION),
        ("duplicate=0", "duplicate", _COUNT),
        ("duplicate=101", "duplicate", _COUNT),
        ("duplicate=x", "duplicate", _COUNT),
        ("duplicate=" + 5000 * "9", "duplicate", _COUNT),
        ("fail=a b", "fail", "1 to 64 letters, digits, '_', '-' and '.'"),
        (
            "drop*2",
            "drop",
            "without *N, which only submission faults, image, query and thin_success take",
        ),
        ("429*0", "429", f"followed by * and {_COUNT}"),
        ("429*101", "429", f"followed by * and {_COUNT}"),
        ("429*" + 5000 * "9", "429", f"followed by * and {_COUNT}"),
        ("402=404", "402", "one of 200, 400, 402, 403, 502"),
        ("429=soon", "429", f"{_DURATION}, or one of {', '.join(RETRY_AFTER_FORMS)}"),
        ("state_form=upper/2s", "state_form", "upper without a time"),
        ("encoding", "encoding", f"one of {', '.join(ENCODINGS)}"),
        ("image", "image", _LINK),
        ("image*2", "image", _LINK),
        ("image=405", "image", _LINK),
        ("image=404/2s", "image", "404 without a time"),
        ("image=503/soon", "image", f"503/ followed by {_DURATION}"),
        ("image=503/", "image", f"503/ followed by {_DURATION}"),
        ("image=slow/86401", "image", f"slow/ followed by {_DURATION}"),
        ("image=404*0", "image", f"404* followed by {_COUNT}"),
        ("image=404*101", "image", f"404* followed by {_COUNT}"),
    ]:
        with pytest.raises(FaultError) as error:
            read_prompt_faults(f"x [sandbox: {text}]")

        assert (error.value.fault, error.value.allowed) == (fault, allowed)
        assert str(error.value).startswith(f"sandbox fault {fault}".strip() + " ")


def test_reads_every_fault() -> None:
    values = {ValueKind.SECONDS: "=1", ValueKind.COUNT: "=1", ValueKind.CODE: "=X"}
    values |= {ValueKind.WAIT: "=1", ValueKind.NOTHING: ""}

    for kind in CATALOGUE.values():
        choice = next(iter(kind.choices), None)
        value = values[kind.value_kind] if choice is None else f"={choice}"
        prompt_faults = read_prompt_faults(f"[sandbox: {kind.name}{value}]")
        task_fault = kind.stage is Stage.TASK
        assert set(prompt_faults.task if task_fault else dict(prompt_faults.submissions)) == {
            kind.name
        }


def test_a_prompt_has_priority_over_a_rule() -> None:
    rules = Rules()
    rules.add(RuleSpec({"duplicate": 3, "429": 1.0, "drop": True}))

    faults = rules.draw(Submission("hiapi", "m", "x [sandbox: duplicate=5, 500]"))

    assert faults.values == {"duplicate": 5, "500": True, "drop": True}


def test_each_provider_model_and_prompt_has_its_own_count() -> None:
    rules = Rules()

    def draw(provider: str, model: str) -> bool:
        return "500" in rules.draw(Submission(provider, model, "x [sandbox: 500]"))

    assert [draw("hiapi", "a"), draw("hiapi", "a")] == [True, False]
    assert draw("hiapi", "b")
    assert draw("evolink", "a")
