"""Fault scripts: the YAML file, its errors and its effect."""

import re
from pathlib import Path

import pytest
import requests

from sandbox.catalogue import CATALOGUE
from sandbox.rule_spec import RuleSpec
from sandbox.script import MAX_BYTES, ScriptError, read_script
from tests.sandbox.conftest import Start
from tests.sandbox.kit import SandboxClient
from tests.support import fork_server

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "sandbox.md").read_text()
EXAMPLE = ROOT / "examples" / "faults.yaml"

#: The faults that the example must show.
EXAMPLE_FAULTS = {
    *("lost_response", "hang", "duplicate", "early", "late", "conflict", "forged", "drop", "fail"),
    *("429", "502_html", "expire_links", "placeholder_image"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "faults.yaml"


def _read(path: Path, text: str) -> tuple[RuleSpec, ...]:
    path.write_text(text)
    return read_script(path)


def _documented() -> str:
    match = re.search(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
    assert match
    return match[1]


def test_reads_rules_in_order(path: Path) -> None:
    text = """
- {provider: evolink, match: 'a: b', times: 1, after: 2, every: 3, share: 2.5 %, faults: [drop]}
- faults:
    early:
    429: {retry_after: 2}
    image: 404
"""

    assert _read(path, text) == (
        RuleSpec({"drop": True}, "evolink", "a: b", 1, 2, 3, 2.5),
        RuleSpec({"early": True, "429": 2.0, "image": "404"}),
    )


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "[]"])
def test_reads_a_script_without_rules(path: Path, text: str) -> None:
    assert _read(path, text) == ()


def test_an_error_is_one_line_with_its_place(path: Path) -> None:
    for text, place, problem in [
        ("faults: [drop]\n", ", line 1", "must be a list of rules"),
        ("\n\ndrop", ", line 3", "must be a list of rules"),
        ("- faults: [drop]\n  match: 'x\n", ", line 3", "found unexpected end of stream"),
        ("- faults: [drop]\n- {\n", ", line 3", "expected the node content"),
        ("- a: 1\n\tb: 2\n", ", line 2", "cannot start any token"),
        ("- faults: [drop]\n---\n- faults: [drop]\n", ", line 2", "but found another document"),
        ("- faults: [drop]\n  faults: [early]\n", ", line 2", "faults must occur once"),
        ("- faults: {429: 1, '429': 2}\n", ", line 1", "429 must occur once"),
        ("- faults: &a [drop]\n- faults: *a\n", ", line 2", "an alias such as *name"),
        ("- faults: !!python/name:os.system\n", ", line 1", "could not determine a constructor"),
        ("- {[a]: 1}\n", ", line 1", "unhashable key"),
        ("- {? {a: 1} : 1}\n", ", line 1", "unhashable key"),
        ("[" * 600, "", "is not valid YAML"),
        ("- times: " + "9" * 5000, "", "is not valid YAML"),
        ("- times: 2026-13-45", "", "is not valid YAML"),
        ("- match: \x07", "", "is not valid YAML"),
        ("-\n", ", rule 1 (line 1)", "rule must be an object"),
        ("- faults: [drop]\n\n- faults:\n    dorp:\n", ", rule 2 (line 3)", "faults.dorp is not"),
        ("- {every: yes}", ", rule 1 (line 1)", "every must be a whole number"),
        ("- faults: {late: 2026-01-01}", ", rule 1 (line 1)", "got datetime.date(2026, 1, 1)"),
        ("- faults: {fail: no}", ", rule 1 (line 1)", "faults.fail must be"),
    ]:
        with pytest.raises(ScriptError) as error:
            _read(path, text)
        message = str(error.value)

        assert message.startswith(f"{path}{place}: ")
        assert problem in message
        assert "\n" not in message
        assert len(message) < 1000


def test_refuses_a_file_that_is_too_long(path: Path) -> None:
    assert _read(path, "#" * MAX_BYTES) == ()
    with pytest.raises(ScriptError, match="must be at most 64 KiB long"):
        _read(path, "#" * (MAX_BYTES + 1))


def test_refuses_a_file_that_cannot_be_read(tmp_path: Path, path: Path) -> None:
    with pytest.raises(ScriptError, match="cannot be read: No such file or directory"):
        read_script(tmp_path / "nowhere.yaml")
    with pytest.raises(ScriptError, match="cannot be read: Is a directory"):
        read_script(tmp_path)
    path.write_bytes(b"- match: \xff\xfe")
    with pytest.raises(ScriptError, match="is not valid YAML"):
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
    views = [client.run("evolink") for _ in range(4)]
    assert [view["status"] for view in views] == ["completed", "completed", "failed", "completed"]
    assert views[2]["error"]["code"] == "content_policy_violation"
    assert 5 <= _contradicted(client, 50) <= 15


def _contradicted(client: SandboxClient, count: int) -> int:
    tasks = [client.submitted("evolink", f"A ball, {number}") for number in range(count)]
    faults = {task["id"]: task["faults"] for task in client.tasks()}
    return sum({"conflict", "forged"} <= set(faults[task]) for task in tasks)


def test_the_control_api_shows_the_rules_of_a_script(path: Path, start: Start) -> None:
    client = start(rules=_read(path, "- {share: 20%, faults: {late: 30s}}\n- faults: [drop]"))
    rules = client.get("/control/faults").json()

    assert [rule["faults"] for rule in rules] == [{"late": 30.0}, {"drop": True}]
    assert [rule["share"] for rule in rules] == ["20%", None]


def test_the_seed_decides_the_share(path: Path, start: Start) -> None:
    rules = _read(path, "- {share: 50%, faults: [drop]}")

    def hits(seed: int) -> list[bool]:
        client = start(rules=rules, seed=seed)
        for number in range(20):
            client.submitted("hiapi", f"prompt {number}")
        return ["drop" in task["faults"] for task in client.tasks()]

    assert hits(1) == hits(1)
    assert hits(1) != hits(2)


def test_the_example_shows_the_faults() -> None:
    rules = read_script(EXAMPLE)

    assert len(rules) > 10
    assert {name for rule in rules for name in rule.faults} >= EXAMPLE_FAULTS
    assert set(CATALOGUE) > EXAMPLE_FAULTS


def test_the_command_prints_the_documented_error(path: Path) -> None:
    path.write_text("# Too many.\n- match: cube\n  faults: {duplicate: 500}\n")
    process = fork_server.run(
        ["-m", "sandbox", "--port", "0", "--script", path.name], folder_of_work=path.parent
    )

    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr in DOCS
    assert process.stderr.count("\n") == 1
