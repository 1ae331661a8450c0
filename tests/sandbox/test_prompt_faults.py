"""How a wish for faults is read from a prompt."""

import pytest

from sandbox.faults import CATALOGUE, FaultError, Kind, Stage, Takes, Value, read_wish
from sandbox.rule_spec import Terms
from sandbox.rules import Rules, Submission


@pytest.mark.parametrize(
    ("text", "task"),
    [
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
    ],
)
def test_reads_faults_of_the_task(text: str, task: dict[str, Value]) -> None:
    wish = read_wish(f"A red cube [Sandbox:{text}] on a table")

    assert dict(wish.task) == task
    assert wish.submissions == ()


@pytest.mark.parametrize(
    ("text", "submissions"),
    [
        ("429", [("429", 1.0)]),
        ("429=7", [("429", 7.0)]),
        ("429=7*2", [("429", 7.0)] * 2),
        ("500*3", [("500", True)] * 3),
        ("429*2, lost_response", [("429", 1.0)] * 2 + [("lost_response", True)]),
        ("hang=2s * 2", [("hang", 2.0)] * 2),
        ("hang", [("hang", 60.0)]),
    ],
)
def test_reads_faults_of_submissions_in_order(text: str, submissions: list[object]) -> None:
    assert list(read_wish(f"[sandbox: {text}]").submissions) == submissions


@pytest.mark.parametrize("prompt", ["A red cube", "sandbox: drop", "[sand box: drop]", ""])
def test_reads_nothing_where_nothing_is_asked(prompt: str) -> None:
    assert read_wish(prompt) == read_wish("")


def test_reads_the_first_wish_only() -> None:
    assert set(read_wish("[sandbox: drop] [sandbox: early]").task) == {"drop"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("dorp", "'dorp' is not allowed; allowed: 402"),
        ("", "name, name=value"),
        ("drop,", "name, name=value"),
        ("a b c", "name, name=value"),
        ("drop=1", "takes no value"),
        ("late", "late=SECONDS"),
        ("late=soon", "a time such as"),
        ("late=-1", "a time such as"),
        ("late=86401", "a time such as"),
        ("duplicate=0", "1 to 100"),
        ("duplicate=101", "1 to 100"),
        ("duplicate=x", "1 to 100"),
        ("duplicate=" + 5000 * "9", "1 to 100"),
        ("429*" + 5000 * "9", "*1 to *100"),
        ("fail=a b", "letters, digits"),
        ("drop*2", "*N only on faults of the submission"),
        ("429*0", "*1 to *100"),
        ("429*101", "*1 to *100"),
        ("image", "'' is not allowed; allowed: 404, 403"),
        ("image*2", "'*2' is not allowed; allowed: 404, 403"),
        ("image=405", "'405' is not allowed; allowed: 404, 403"),
        ("image=404/2s", "404 without a time"),
        ("image=503/soon", "503/ and a time such as"),
        ("image=503/", "503/ and a time such as"),
        ("image=slow/86401", "slow/ and a time such as"),
        ("image=404*0", "*1 to *100"),
        ("image=404*101", "*1 to *100"),
    ],
    ids=lambda text: text[:40],
)
def test_refuses_what_it_cannot_read(text: str, complaint: str) -> None:
    with pytest.raises(FaultError, match="is not allowed; allowed: ") as error:
        read_wish(f"x [sandbox: {text}]")

    assert complaint in str(error.value)


@pytest.mark.parametrize("fault", CATALOGUE.values(), ids=list(CATALOGUE))
def test_reads_every_fault_there_is(fault: Kind) -> None:
    values = {Takes.SECONDS: "=1", Takes.COUNT: "=1", Takes.CODE: "=X"}
    values |= {Takes.LINK: "=404", Takes.NOTHING: ""}

    wish = read_wish(f"[sandbox: {fault.name}{values[fault.takes]}]")

    read = wish.task if fault.stage is Stage.TASK else dict(wish.submissions)
    assert set(read) == {fault.name}


def test_a_wish_wins_over_a_rule() -> None:
    rules = Rules()
    rules.add(Terms({"duplicate": 3, "429": 1.0, "drop": True}))

    faults = rules.draw(Submission("hiapi", "m", "x [sandbox: duplicate=5, 500]"))

    assert faults.values == {"duplicate": 5, "500": True, "drop": True}


def test_each_submission_has_its_own_count() -> None:
    rules = Rules()

    def draw(provider: str, model: str) -> bool:
        return "500" in rules.draw(Submission(provider, model, "x [sandbox: 500]"))

    assert [draw("hiapi", "a"), draw("hiapi", "a")] == [True, False]
    assert draw("hiapi", "b")
    assert draw("evolink", "a")
