"""docs/errors.md against the error codes and against the adapters' tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

import orjson

from orchestrator.cli.stack import ROOT
from orchestrator.jobs.answer_schemas import JobErrorSchema
from orchestrator.jobs.model import ErrorCode, JobError
from orchestrator.jsonio import dump
from orchestrator.net.http_types import Reply
from orchestrator.providers import BUILT_IN, responses
from orchestrator.providers.errors import STATUS_ERRORS, by_status, failure, thin_success
from tests.docs.pages import DocPage
from tests.support.cases import for_each

PAGE = DocPage("docs/errors.md").text
#: code -> meaning, retryable, what to do, from
ROWS = {row[0].strip("`"): row[1:] for row in DocPage("docs/errors.md").rows("code")}
RETRYABLE = {code: cells[1] for code, cells in ROWS.items()}


def tables(module: ModuleType) -> Iterator[tuple[str, Mapping[Any, tuple[ErrorCode, bool]]]]:
    """Return a module's tables of error codes, by name."""
    for name, value in vars(module).items():
        if isinstance(value, Mapping) and value and name.isupper():
            first = next(iter(value.values()))
            if isinstance(first, tuple) and isinstance(first[0], ErrorCode):
                yield name, value


#: Providers' own codes: provider, table, code, our code, whether the error may pass.
LISTED = [
    (provider.title, name, code, *ours)
    for provider in BUILT_IN.values()
    for name, table in tables(import_module(type(provider).__module__))
    if table is not STATUS_ERRORS
    for code, ours in table.items()
]


def produced() -> Iterator[tuple[ErrorCode, bool]]:
    """Return each error that adapters and their base produce, and whether it may pass."""
    yield from STATUS_ERRORS.values()
    yield from ((ours, retryable) for *_, ours, retryable in LISTED)
    yield from (by_status(418), by_status(500))
    for error in (failure(None, {}), thin_success(None, {})):
        yield error.code, error.retryable


def test_every_code_is_a_row_and_no_other() -> None:
    assert list(ROWS) == [code.value for code in ErrorCode]
    assert all(len(cells) == 4 for cells in ROWS.values())


def test_retryable_is_what_the_adapters_say() -> None:
    for code in ErrorCode:
        answers = {retryable for produced_code, retryable in produced() if produced_code is code}

        words = {
            frozenset({True}): "yes",
            frozenset({False}): "no",
            frozenset({True, False}): "depends",
        }
        only_ours = {ErrorCode.SUBMISSION_UNCONFIRMED, ErrorCode.DEADLINE_EXCEEDED}
        assert RETRYABLE[code] == ("no" if code in only_ours else words[frozenset(answers)])
        assert not (answers and code in only_ours)


def test_the_adapters_tables_are_found() -> None:
    assert {(title, name) for title, name, *_ in LISTED} >= {
        ("EvoLink", "ERROR_TYPES"),
        ("EvoLink", "TASK_ERRORS"),
        ("HiAPI", "ERROR_CODES"),
    }


def test_a_providers_own_code_stands_in_the_row_it_leads_to() -> None:
    for title, code, ours in [(t, c, o) for t, _, c, o, _ in LISTED]:
        rows = [row for row, cells in ROWS.items() if f"`{code}`" in cells[3]]

        assert rows == [ours.value]
        assert title in ROWS[ours][3].partition(f"`{code}`")[0]


@for_each("status", STATUS_ERRORS)
def test_a_status_stands_in_the_row_it_leads_to(status: int) -> None:
    rows = [row for row, cells in ROWS.items() if re.search(rf"HTTP [\d, ]*{status}\b", cells[3])]

    assert rows == [STATUS_ERRORS[status][0].value]


def test_the_example_is_what_evolink_leads_to() -> None:
    [block] = re.findall(r"(?s)```json\n(.*?)```", PAGE)
    shown = orjson.loads(block)["error"]
    error = {"message": "Insufficient quota", "type": "insufficient_quota_error", "code": 402}
    error["fallback_suggestion"] = "https://evolink.ai/dashboard/billing"

    read = BUILT_IN["evolink"].read_error(402, {"error": error})

    assert read == JobError(**{**shown, "code": ErrorCode(shown["code"])})
    assert list(shown) == list(JobErrorSchema().fields)


def test_the_lengths_it_names_are_kept() -> None:
    answer = {"error_code": "X" * 5000, "message": "m" * 5000}

    read = BUILT_IN["hiapi"].read_submit(Reply(400, {}, dump(answer)))

    assert isinstance(read, responses.Rejected)
    assert f"up to {len(read.error.message)} characters" in PAGE
    assert f"up to {len(read.error.provider_code or '')} characters" in PAGE


def test_every_type_of_a_problem_document_is_listed() -> None:
    """Those whose name is not that of their status: the code writes them."""
    written = re.compile(r'\bproblem(?:_document)?\(\s*(\d+),\s*"([a-z-]+)"')
    files = [file.read_text("utf-8") for file in (ROOT / "orchestrator").rglob("*.py")]
    types = {(kind, status) for text in files for status, kind in written.findall(text)}
    rows = DocPage("docs/http-api.md").rows("type")
    assert sorted((row[0].strip("`"), row[1]) for row in rows) == sorted(types)
