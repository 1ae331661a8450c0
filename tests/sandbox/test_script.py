"""Fault scripts: the file, what is wrong with it, and the run it makes."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner

from sandbox.__main__ import main
from sandbox.faults import CATALOGUE
from sandbox.rule_spec import Terms
from sandbox.script import MAX_BYTES, ScriptError, read_script
from tests.sandbox.conftest import Start
from tests.sandbox.kit import Client, task_id

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "sandbox.md").read_text()
EXAMPLE = ROOT / "examples" / "faults.yaml"

#: what the project promises that a script can ask for
PROMISED = {
    *("lost_response", "hang", "duplicate", "early", "late", "conflict", "forged", "drop", "fail"),
    *("429", "502_html", "expire_links", "placeholder_image"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "faults.yaml"


def _read(path: Path, text: str) -> tuple[Terms, ...]:
    path.write_text(text)
    return read_script(path)


def _documented() -> str:
    found = re.search(r"## Fault scripts\n+```yaml\n(.*?)```", DOCS, re.DOTALL)
    assert found
    return found[1]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("{lost_response: }", {"lost_response": True}),
        ("{lost_response: true}", {"lost_response": True}),
        ("{lost_response: null, duplicate: 5}", {"lost_response": True, "duplicate": 5}),
        ("{late: 30s}", {"late": 30.0}),
        ("{late: 0.5}", {"late": 0.5}),
        ("{429: {retry_after: 2}}", {"429": 2.0}),
        ("{'429': {retry_after: 500ms}}", {"429": 0.5}),
        ("{429: 2}", {"429": 2.0}),
        ("{429: }", {"429": 1.0}),
        ("{502_html: }", {"502_html": True}),
        ("{fail: content_policy}", {"fail": "content_policy"}),
        ("{expire_links: 60s, placeholder_image: }", None),
        ("{image: 404}", {"image": "404"}),
        ("{image: 503/7s*2}", {"image": "503/7s*2"}),
        ("{image: gzip_bomb}", {"image": "gzip_bomb"}),
        ("[drop, forged]", {"drop": True, "forged": True}),
        ("[429]", {"429": 1.0}),
        ("[hang]", {"hang": 60.0}),
    ],
)
def test_reads_every_form_of_a_fault(path: Path, text: str, faults: object) -> None:
    (terms,) = _read(path, f"- faults: {text}\n")

    assert terms.faults == (faults or {"expire_links": 60.0, "placeholder_image": True})


def test_reads_every_field(path: Path) -> None:
    (terms,) = _read(
        path,
        "- {provider: evolink, match: 'a: b', times: 1, after: 2, every: 3, share: 2.5 %,"
        " faults: [drop]}",
    )

    assert terms == Terms({"drop": True}, "evolink", "a: b", 1, 2, 3, 2.5)


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "[]"])
def test_reads_a_script_without_rules(path: Path, text: str) -> None:
    assert _read(path, text) == ()


@pytest.mark.parametrize(
    ("text", "place", "complaint"),
    [
        ("faults: [drop]\n", ", line 1", "is no list; allowed: a list of rules"),
        ("\n\ndrop", ", line 3", "is no list"),
        ("- faults: [drop]\n  match: 'x\n", ", line 3", "found unexpected end of stream"),
        ("- faults: [drop]\n- {\n", ", line 3", "expected the node content"),
        ("- a: 1\n\tb: 2\n", ", line 2", "cannot start any token"),
        ("- faults: [drop]\n---\n- faults: [drop]\n", ", line 2", "but found another document"),
        ("- faults: [drop]\n  faults: [early]\n", ", line 2", "faults is there twice"),
        ("- faults: {429: 1, '429': 2}\n", ", line 1", "429 is there twice"),
        ("- faults: &a [drop]\n- faults: *a\n", ", line 2", "aliases such as *name are not"),
        ("- faults: !!python/name:os.system\n", ", line 1", "could not determine a constructor"),
        ("- {[a]: 1}\n", ", line 1", "unhashable key"),
        ("- {? {a: 1} : 1}\n", ", line 1", "unhashable key"),
        ("[" * 5000, "", "is no YAML that can be read"),
        ("- times: " + "9" * 5000, "", "is no YAML that can be read"),
        ("- times: 2026-13-45", "", "is no YAML that can be read"),
        ("- match: \x07", "", "is no YAML that can be read"),
        ("- drop\n", ", rule 1 (line 1)", "rule: 'drop' is not allowed; allowed: an object with"),
        ("-\n", ", rule 1 (line 1)", "rule: None is not allowed"),
        ("- {}\n", ", rule 1 (line 1)", "faults: None is not allowed; allowed: name: value"),
        (
            "- faults: [drop]\n\n- faults:\n    dorp:\n",
            *(", rule 2 (line 3)", "faults.dorp: 'dorp' is not allowed; allowed: 402, 429[=SEC"),
        ),
        ("- {tims: 1}", ", rule 1 (line 1)", "tims: 1 is not allowed; allowed: provider, match"),
        ("- {1: 1}", ", rule 1 (line 1)", "1: 1 is not allowed; allowed: provider, match"),
        ("- {provider: higgs}", ", rule 1", "provider: 'higgs' is not allowed; allowed: hiapi, "),
        ("- {times: " + 5000 * "x" + "}", ", rule 1", "… is not allowed; allowed: a whole number"),
        ("- {? " + 5000 * "x" + " : 1}", ", rule 1", "…: 1 is not allowed; allowed: provider"),
        ("- {match: 42}", ", rule 1", "match: 42 is not allowed; allowed: a piece of the prompt"),
        ("- {times: 0}", ", rule 1", "times: 0 is not allowed; allowed: a whole number from 1"),
        ("- {after: 1.5}", ", rule 1", "after: 1.5 is not allowed"),
        ("- {every: yes}", ", rule 1", "every: True is not allowed"),
        ("- {share: 0.2}", ", rule 1", "share: 0.2 is not allowed; allowed: a percentage such as"),
        ("- {share: 200%}", ", rule 1", "share: '200%' is not allowed"),
        ("- faults: {duplicate: 500}", ", rule 1", "faults.duplicate: '500' is not allowed; allo"),
        ("- faults: {late: soon}", ", rule 1", "faults.late: 'soon' is not allowed; allowed: a t"),
        ("- faults: {late: 2026-01-01}", ", rule 1", "faults.late: datetime.date(2026, 1, 1)"),
        ("- faults: {fail: no}", ", rule 1", "faults.fail: False is not allowed"),
        ("- faults: [image]", ", rule 1", "faults.image: '' is not allowed; allowed: 404, 403"),
        ("- faults: {image: {x: 1}}", ", rule 1", "allowed: image=KIND[/SECONDS][*N]"),
        ("- faults: {500: , 503: }", ", rule 1", "'500 and 503' is not allowed; allowed: one of"),
        (
            "- {provider: aigptimage, faults: [drop]}",
            *(", rule 1", "faults.drop: 'drop' is not allowed; allowed: any fault aigptimage has"),
        ),
    ],
    ids=lambda text: text[:40],
)
def test_says_in_one_line_what_is_wrong(path: Path, text: str, place: str, complaint: str) -> None:
    with pytest.raises(ScriptError) as error:
        _read(path, text)
    message = str(error.value)

    assert message.startswith(f"{path}{place}")
    assert complaint in message
    assert "\n" not in message
    assert len(message) < 1000


def test_refuses_a_file_that_is_too_long(path: Path) -> None:
    assert _read(path, "#" * MAX_BYTES) == ()
    with pytest.raises(ScriptError, match="is too long; allowed: 64 KiB"):
        _read(path, "#" * (MAX_BYTES + 1))


def test_refuses_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match="cannot be read: No such file or directory"):
        read_script(tmp_path / "nowhere.yaml")
    with pytest.raises(ScriptError, match="cannot be read: Is a directory"):
        read_script(tmp_path)


def test_refuses_bytes_that_are_no_text(path: Path) -> None:
    path.write_bytes(b"- match: \xff\xfe")
    with pytest.raises(ScriptError, match="is no YAML that can be read"):
        read_script(path)


def test_the_documented_script_does_what_it_says(path: Path, start: Start) -> None:
    client = start(rules=_read(path, _documented()), seed=42)

    with pytest.raises(requests.ConnectionError):
        client.submit("hiapi", "A lighthouse at dusk")
    answers = [client.submit("hiapi", f"A lighthouse, {number}") for number in range(4)]
    *_, first = client.tasks()

    assert first["faults"].items() >= {"lost_response": True, "duplicate": 5, "late": 30}.items()
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].headers["Retry-After"] == "2"
    ends = [client.finished("evolink", client.submitted("evolink")) for _ in range(4)]
    assert [seen["status"] for seen in ends] == ["completed", "completed", "failed", "completed"]
    assert ends[2]["error"]["code"] == "content_policy_violation"
    assert 5 <= _contradicted(client, 50) <= 15


def _contradicted(client: Client, count: int) -> int:
    tasks = [client.submitted("evolink", f"A ball, {number}") for number in range(count)]
    faults = {task["id"]: task["faults"] for task in client.tasks()}
    return sum({"conflict", "forged"} <= set(faults[task]) for task in tasks)


def test_the_same_seed_makes_the_same_run(path: Path, start: Start) -> None:
    rules = _read(path, "- {share: 50%, faults: [drop]}")

    def run(seed: int, prompts: list[str]) -> dict[str, bool]:
        client = start(rules=rules, seed=seed)
        for prompt in prompts:
            client.submitted("hiapi", prompt)
        return {task["prompt"]: "drop" in task["faults"] for task in client.tasks()}

    prompts = [f"prompt {number}" for number in range(20)]
    assert run(1, prompts) == run(1, prompts[::-1])
    assert run(1, prompts) != run(2, prompts)


def test_the_control_api_shows_the_rules_of_a_script(path: Path, start: Start) -> None:
    client = start(rules=_read(path, _documented()))
    shown = client.get("/control/faults").json()

    assert [rule["faults"] for rule in shown] == [
        {"lost_response": True, "duplicate": 5, "late": 30.0},
        {"fail": "content_policy"},
        {"429": 2.0},
        {"conflict": True, "forged": True},
    ]
    assert [rule["share"] for rule in shown] == [None, None, None, "20%"]


def test_the_example_shows_every_fault_that_is_promised() -> None:
    rules = read_script(EXAMPLE)
    shown = {name for terms in rules for name in terms.faults}

    assert len(rules) > 10
    assert shown >= PROMISED
    assert set(CATALOGUE) > PROMISED


@pytest.mark.parametrize("how", ["option", "environment"])
def test_the_command_takes_a_script(path: Path, how: str) -> None:
    path.write_text("- {match: lighthouse, times: 1, faults: {429: {retry_after: 2}}}\n")
    arguments = ["--script", str(path), "--seed", "7"] if how == "option" else []
    environment = {"SANDBOX_SCRIPT": str(path), "SANDBOX_SEED": "7"} if not arguments else {}
    command = [sys.executable, "-m", "sandbox", "--port", "0", *arguments]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={"PATH": os.environ["PATH"], **environment},
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            line = process.stdout.readline()
            client = Client(url)
            client.session.headers["Authorization"] = "Bearer sandbox"
            with client.session:
                answers = [client.submit("hiapi", "A lighthouse") for _ in range(2)]
                page = client.get("/").text
        finally:
            process.send_signal(signal.SIGTERM)

    assert line == f"fault script {path}: 1 rules, seed 7\n"
    assert [answer.status_code for answer in answers] == [429, 200]
    assert task_id(answers[1])
    assert "--seed 7<" in page


def test_the_command_says_what_is_wrong_with_a_script(path: Path) -> None:
    # As docs/sandbox.md shows it.
    path.write_text("# Too many.\n- match: cube\n  faults: {duplicate: 500}\n")
    command = [sys.executable, "-m", "sandbox", "--port", "0", "--script", path.name]
    ended = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        cwd=path.parent,
        env={"PYTHONPATH": str(ROOT)},
    )

    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr in DOCS
    assert ended.stderr.count("\n") == 1


def test_the_command_names_a_missing_script(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--script", str(tmp_path / "no.yaml")])

    assert result.exit_code == 2
    missing = f"Error: {tmp_path}/no.yaml: cannot be read: No such file or directory\n"
    assert result.output == missing


@pytest.mark.parametrize("seed", ["-1", "x", "1.5"])
def test_the_command_refuses_a_bad_seed(seed: str) -> None:
    assert CliRunner().invoke(main, ["--seed", seed]).exit_code == 2
