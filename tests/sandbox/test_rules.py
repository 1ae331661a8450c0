"""Which submissions a rule applies to."""

import threading
from collections.abc import Sequence

from sandbox.rule_spec import RuleSpec
from sandbox.rules import Rules, Submission
from tests.support.cases import for_each

DROP = {"drop": True}
LOST = {"lost_response": True}


def _submission(prompt: str, provider: str = "hiapi", *, resend: bool = False) -> Submission:
    return Submission(provider, "model", prompt, resend)


def _hits(rules: Rules, prompts: Sequence[str]) -> list[int]:
    """Return the numbers of the submissions with the fault `drop`. The first is number 1."""
    drawn = [rules.draw(_submission(prompt)) for prompt in prompts]
    return [number for number, faults in enumerate(drawn, start=1) if "drop" in faults]


@for_each(
    ("spec", "hits"),
    [
        (RuleSpec(DROP), [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (RuleSpec(DROP, times=2), [1, 2]),
        (RuleSpec(DROP, after=7), [8, 9]),
        (RuleSpec(DROP, after=2, times=1), [3]),
        (RuleSpec(DROP, every=4), [4, 8]),
        (RuleSpec(DROP, every=1), [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (RuleSpec(DROP, after=1, every=3), [4, 7]),
        (RuleSpec(DROP, after=1, every=3, times=1), [4]),
    ],
)
def test_selects_by_number(spec: RuleSpec, hits: list[int]) -> None:
    rules = Rules()
    rules.add(spec)

    assert _hits(rules, ["x"] * 9) == hits


def test_counts_only_what_it_matches() -> None:
    rules = Rules()
    rule = rules.add(RuleSpec(DROP, provider="hiapi", match="cube", after=1, times=1))
    drawn = [
        rules.draw(_submission(prompt, provider))
        for prompt, provider in (
            *(("a cube", "evolink"), ("a ball", "hiapi"), ("a cube", "hiapi")),
            *(("a ball", "hiapi"), ("two cubes", "evolink"), ("a cube", "hiapi")),
        )
    ]

    assert ["drop" in faults for faults in drawn] == [False] * 5 + [True]
    assert (rule.seen, rule.hits, rule.remaining) == (2, 1, 0)


def test_a_share_is_about_as_large_as_asked_for() -> None:
    rules = Rules(seed=1)
    rules.add(RuleSpec(DROP, share=20.0))

    assert 340 < len(_hits(rules, [f"prompt {number}" for number in range(2000)])) < 460


def test_a_share_of_100_percent_hits_all() -> None:
    rules = Rules()
    rules.add(RuleSpec(DROP, share=100.0))

    assert _hits(rules, ["x"] * 50) == list(range(1, 51))


def test_a_share_does_not_depend_on_the_order() -> None:
    prompts = [f"prompt {number % 40}" for number in range(120)]

    def hit(order: Sequence[str], seed: int) -> list[tuple[str, int]]:
        rules, submitted = Rules(seed), list[str]()
        rules.add(RuleSpec(DROP, share=30.0))
        hits = []
        for prompt in order:
            submitted.append(prompt)
            if "drop" in rules.draw(_submission(prompt)):
                hits.append((prompt, submitted.count(prompt)))
        return sorted(hits)

    assert hit(prompts, 1) == hit(prompts[::-1], 1) == hit(sorted(prompts), 1)
    assert hit(prompts, 1) != hit(prompts, 2)


def test_a_share_does_not_depend_on_the_order_of_threads() -> None:
    def hits() -> tuple[int, dict[str, int]]:
        rules, drawn = Rules(seed=3), dict[str, int]()
        rule = rules.add(RuleSpec(DROP, share=50.0))
        gate = threading.Barrier(4)

        def run(prompt: str) -> None:
            gate.wait()
            drawn[prompt] = sum("drop" in rules.draw(_submission(prompt)) for _ in range(50))

        threads = [threading.Thread(target=run, args=(f"prompt {n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return rule.hits, drawn

    assert hits() == hits()


def test_a_larger_share_hits_the_same_and_more() -> None:
    prompts = [f"prompt {number}" for number in range(300)]
    hits = []
    for share in (10.0, 30.0):
        rules = Rules()
        rules.add(RuleSpec(DROP, share=share))
        hits.append(set(_hits(rules, prompts)))

    assert hits[0] < hits[1]


def test_the_shares_of_two_rules_are_independent() -> None:
    rules = Rules()
    rules.add(RuleSpec(DROP, share=50.0))
    rules.add(RuleSpec({"early": True}, share=50.0))
    drawn = [frozenset(rules.draw(_submission(f"prompt {n}")).values) for n in range(100)]

    assert set(drawn) == {frozenset(names) for names in ((), ("drop",), ("early",))} | {
        frozenset({"drop", "early"})
    }


def test_a_resend_has_its_own_position_in_the_share() -> None:
    # Otherwise a submission that is lost once would always be lost.
    rules = Rules()
    rules.add(RuleSpec(LOST, share=50.0))
    drawn = [
        "lost_response" in rules.draw(_submission("x", resend=number > 0)) for number in range(40)
    ]

    assert {*drawn} == {True, False}


def test_the_same_rule_hits_the_same_submissions_again() -> None:
    rules = Rules()
    hits = []
    for _ in range(2):
        rule = rules.add(RuleSpec(DROP, share=30.0))
        hits.append(_hits(rules, [f"prompt {number}" for number in range(50)]))
        rules.remove(rule.id)

    assert hits[0] == hits[1] != []


def test_a_rule_without_submission_faults_counts_tasks() -> None:
    rules = Rules()
    rules.add(RuleSpec({"503": True}, times=1))
    drop = rules.add(RuleSpec(DROP, after=1, times=1))
    first_refused, first, resend, second = (
        rules.draw(_submission("a")),
        rules.draw(_submission("a")),
        rules.draw(_submission("a", resend=True)),
        rules.draw(_submission("b")),
    )

    assert set(first_refused.values) == {"503"}
    assert (first.values, resend.values) == ({}, {})
    assert second.values == DROP
    assert (drop.seen, drop.hits) == (2, 1)


def test_a_refusal_by_the_prompt_creates_no_task() -> None:
    rules = Rules()
    rules.add(RuleSpec(DROP, times=1))

    assert set(rules.draw(_submission("x [sandbox: 429]")).values) == {"429"}
    assert rules.draw(_submission("x [sandbox: 429]")).values == DROP


def test_a_rule_with_a_submission_fault_counts_resends() -> None:
    rules = Rules()
    rules.add(RuleSpec(LOST | DROP, after=1, times=1))

    assert rules.draw(_submission("x")).values == {}
    assert rules.draw(_submission("x", resend=True)).values == LOST | DROP


def test_the_later_rule_has_priority() -> None:
    rules = Rules()
    for seconds in (1.0, 2.0):
        rules.add(RuleSpec({"late": seconds}))
    rules.add(RuleSpec({"slow": 3.0}))
    # This rule also affects the submission, so it is counted first. Its place still decides.
    rules.add(RuleSpec({"slow": 4.0, "hang": 1.0}))
    rules.add(RuleSpec({"slow": 5.0}))

    assert rules.draw(_submission("x")).values == {"late": 2.0, "slow": 5.0, "hang": 1.0}


def test_a_rule_does_not_count_a_provider_without_its_faults() -> None:
    rules = Rules()
    rules.add(RuleSpec({"cancelled": True}, times=1))
    mixed = rules.add(RuleSpec({"cancelled": True, "slow": 1.0}, times=1))

    assert rules.draw(_submission("x"), frozenset({"cancelled"})).values == {"slow": 1.0}
    assert rules.draw(_submission("x")).values == {"cancelled": True}
    assert mixed.hits == 1


def test_forgetting_submissions_keeps_the_counters_of_rules() -> None:
    rules = Rules()
    rules.add(RuleSpec(DROP, after=1, times=1))
    rules.draw(_submission("x"))
    rules.forget_submissions()

    assert rules.draw(_submission("x")).values == DROP
