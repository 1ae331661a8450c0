"""Which submissions a rule applies to."""

import threading
from collections.abc import Sequence

import pytest

from sandbox.rule_spec import Terms
from sandbox.rules import Rules, Submission

DROP = {"drop": True}
LOST = {"lost_response": True}


def _of(prompt: str, provider: str = "hiapi", *, resend: bool = False) -> Submission:
    return Submission(provider, "model", prompt, resend)


def _hits(rules: Rules, prompts: Sequence[str], fault: str = "drop") -> list[int]:
    """Which of these submissions, counted from 1, have the fault."""
    drawn = [rules.draw(_of(prompt)) for prompt in prompts]
    return [number for number, faults in enumerate(drawn, start=1) if fault in faults]


@pytest.mark.parametrize(
    ("terms", "hits"),
    [
        (Terms(DROP), [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (Terms(DROP, times=2), [1, 2]),
        (Terms(DROP, after=7), [8, 9]),
        (Terms(DROP, after=2, times=1), [3]),
        (Terms(DROP, every=4), [4, 8]),
        (Terms(DROP, every=1), [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (Terms(DROP, after=1, every=3), [4, 7]),
        (Terms(DROP, after=1, every=3, times=1), [4]),
    ],
)
def test_picks_by_number(terms: Terms, hits: list[int]) -> None:
    rules = Rules()
    rules.add(terms)

    assert _hits(rules, ["x"] * 9) == hits


def test_counts_only_what_it_matches() -> None:
    rules = Rules()
    rule = rules.add(Terms(DROP, provider="hiapi", match="cube", after=1, times=1))
    drawn = [
        rules.draw(_of(prompt, provider))
        for prompt, provider in (
            *(("a cube", "evolink"), ("a ball", "hiapi"), ("a cube", "hiapi")),
            *(("a ball", "hiapi"), ("two cubes", "evolink"), ("a cube", "hiapi")),
        )
    ]

    assert ["drop" in faults for faults in drawn] == [False] * 5 + [True]
    assert (rule.seen, rule.hits, rule.remaining) == (2, 1, 0)


def test_a_share_is_about_as_large_as_asked_for() -> None:
    rules = Rules(seed=1)
    rules.add(Terms(DROP, share=20.0))

    assert 340 < len(_hits(rules, [f"prompt {number}" for number in range(2000)])) < 460


def test_a_share_of_all_is_all() -> None:
    rules = Rules()
    rules.add(Terms(DROP, share=100.0))

    assert _hits(rules, ["x"] * 50) == list(range(1, 51))


def test_a_share_falls_the_same_whatever_the_order() -> None:
    prompts = [f"prompt {number % 40}" for number in range(120)]

    def hit(order: Sequence[str], seed: int) -> list[tuple[str, int]]:
        rules, seen = Rules(seed), list[str]()
        rules.add(Terms(DROP, share=30.0))
        hits = []
        for prompt in order:
            seen.append(prompt)
            if "drop" in rules.draw(_of(prompt)):
                hits.append((prompt, seen.count(prompt)))
        return sorted(hits)

    assert hit(prompts, 1) == hit(prompts[::-1], 1) == hit(sorted(prompts), 1)
    assert hit(prompts, 1) != hit(prompts, 2)


def test_a_share_falls_the_same_when_threads_race() -> None:
    def hits() -> tuple[int, dict[str, int]]:
        rules, drawn = Rules(seed=3), dict[str, int]()
        rule = rules.add(Terms(DROP, share=50.0))
        gate = threading.Barrier(4)

        def run(prompt: str) -> None:
            gate.wait()
            drawn[prompt] = sum("drop" in rules.draw(_of(prompt)) for _ in range(50))

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
        rules.add(Terms(DROP, share=share))
        hits.append(set(_hits(rules, prompts)))

    assert hits[0] < hits[1]


def test_shares_of_two_rules_fall_apart() -> None:
    rules = Rules()
    rules.add(Terms(DROP, share=50.0))
    rules.add(Terms({"early": True}, share=50.0))
    drawn = [frozenset(rules.draw(_of(f"prompt {n}")).values) for n in range(100)]

    assert set(drawn) == {frozenset(names) for names in ((), ("drop",), ("early",))} | {
        frozenset({"drop", "early"})
    }


def test_a_resend_has_a_lot_of_its_own() -> None:
    # Or a submission that is lost once would be lost for good.
    rules = Rules()
    rules.add(Terms(LOST, share=50.0))
    drawn = ["lost_response" in rules.draw(_of("x", resend=number > 0)) for number in range(40)]

    assert {*drawn} == {True, False}


def test_a_share_stays_the_same_when_it_is_written_again() -> None:
    rules = Rules()
    hits = []
    for _ in range(2):
        rule = rules.add(Terms(DROP, share=30.0))
        hits.append(_hits(rules, [f"prompt {number}" for number in range(50)]))
        rules.remove(rule.id)

    assert hits[0] == hits[1] != []


def test_faults_of_the_task_count_tasks() -> None:
    rules = Rules()
    rules.add(Terms({"503": True}, times=1))
    drop = rules.add(Terms(DROP, after=1, times=1))
    first_refused, first, resend, second = (
        rules.draw(_of("a")),
        rules.draw(_of("a")),
        rules.draw(_of("a", resend=True)),
        rules.draw(_of("b")),
    )

    assert set(first_refused.values) == {"503"}
    assert (first.values, resend.values) == ({}, {})
    assert second.values == DROP
    assert (drop.seen, drop.hits) == (2, 1)


def test_a_refusal_the_prompt_asks_for_is_no_task_either() -> None:
    rules = Rules()
    rules.add(Terms(DROP, times=1))

    assert set(rules.draw(_of("x [sandbox: 429]")).values) == {"429"}
    assert rules.draw(_of("x [sandbox: 429]")).values == DROP


def test_faults_of_the_submission_count_resends() -> None:
    rules = Rules()
    rules.add(Terms(LOST | DROP, after=1, times=1))

    assert rules.draw(_of("x")).values == {}
    assert rules.draw(_of("x", resend=True)).values == LOST | DROP


def test_the_later_of_two_rules_wins() -> None:
    rules = Rules()
    for seconds in (1.0, 2.0):
        rules.add(Terms({"late": seconds}))
    rules.add(Terms({"slow": 3.0}))
    # It also bites the submission and is drawn first; its place still decides.
    rules.add(Terms({"slow": 4.0, "hang": 1.0}))
    rules.add(Terms({"slow": 5.0}))

    assert rules.draw(_of("x")).values == {"late": 2.0, "slow": 5.0, "hang": 1.0}


def test_a_rule_waits_for_a_provider_that_has_its_faults() -> None:
    rules = Rules()
    rules.add(Terms({"cancelled": True}, times=1))
    mixed = rules.add(Terms({"cancelled": True, "slow": 1.0}, times=1))

    assert rules.draw(_of("x"), frozenset({"cancelled"})).values == {"slow": 1.0}
    assert rules.draw(_of("x")).values == {"cancelled": True}
    assert mixed.hits == 1


def test_forgetting_submissions_leaves_rules_as_they_are() -> None:
    rules = Rules()
    rules.add(Terms(DROP, after=1, times=1))
    rules.draw(_of("x"))
    rules.forget_submissions()

    assert rules.draw(_of("x")).values == DROP
