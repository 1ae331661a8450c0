"""Reads files of jobs: JSON lines, and CSV with a header."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from marshmallow import fields

from orchestrator.job_check import REQUEST_SCHEMA
from orchestrator.jobs.validation import InvalidRequest, KnownFields, Violation
from orchestrator.jsonio import NotJson, parse
from orchestrator.operations.batches import OWN_KEY, fingerprint

#: The endings of the files, and what they hold.
CSV, JSON_LINES = ".csv", (".jsonl", ".ndjson", ".json")
#: The start of the name of a CSV column with one value of the metadata.
METADATA = "metadata."
#: The columns of a CSV file.
COLUMNS = (*REQUEST_SCHEMA.fields, OWN_KEY)
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class JobLine:
    """A job in a file, by the number of its line; or why the line cannot be read."""

    number: int
    request: Any = None
    error: InvalidRequest | None = None


@dataclass(frozen=True, slots=True)
class JobFile:
    """A file of jobs.

    Attributes:
        path: of the file.
        content: of the file. It is read once, so that a change meanwhile does no harm.
        defaults: the fields that every line has, unless the line names them.
    """

    path: Path
    content: bytes
    defaults: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path, defaults: Mapping[str, Any]) -> Self:
        """Read a file.

        Raises:
            InvalidRequest: it cannot be read, or has another ending.
        """
        if path.suffix.lower() not in (CSV, *JSON_LINES):
            allowed = f"a file with the ending {', '.join((*JSON_LINES, CSV))}"
            raise InvalidRequest(Violation("--file", str(path), allowed))
        try:
            return cls(path, path.read_bytes(), defaults)
        except OSError as error:
            allowed = f"a file that can be read ({error.strerror})"
            raise InvalidRequest(Violation("--file", str(path), allowed)) from None

    @property
    def digest(self) -> str:
        """A hash of the content and the defaults."""
        content = hashlib.sha256(self.content).hexdigest()
        return fingerprint({"content": content, "defaults": dict(self.defaults)})

    def lines(self) -> Iterator[JobLine]:
        """Yield the jobs. Empty lines are left out."""
        read = _csv_lines if self.path.suffix.lower() == CSV else _json_lines
        for line in read(self.content.removeprefix(_BOM)):
            if isinstance(line.request, dict):
                yield JobLine(line.number, {**self.defaults, **line.request})
            else:
                yield line


def _json_lines(content: bytes) -> Iterator[JobLine]:
    for number, text in enumerate(io.BytesIO(content), 1):
        if not text.strip():
            continue
        try:
            request = parse(text)
        except NotJson as error:
            yield _bad(number, text[:200].decode("utf-8", "replace"), f"JSON ({error})")
            continue
        if isinstance(request, dict):
            yield JobLine(number, request)
        else:
            yield _bad(number, request, "a JSON object")


def _csv_lines(content: bytes) -> Iterator[JobLine]:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        yield _bad(number, "other bytes", "UTF-8 text")
        return
    # The usual limit is shorter than a prompt may be. It is one for all readers of the process.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    number = 1
    try:
        for cells in rows:
            if any(cells) and header is None:
                header = [name.strip() for name in cells]
                if violations := tuple(_bad_columns(header)):
                    yield JobLine(number, error=InvalidRequest(*violations))
                    return
            elif any(cells):
                yield _csv_line(number, header or [], cells)
            number = rows.line_num + 1
    except csv.Error as error:
        yield _bad(number, "", f"CSV ({error})")


def _bad_columns(header: Sequence[str]) -> Iterator[Violation]:
    for name in header:
        if name not in COLUMNS and not (name.startswith(METADATA) and name != METADATA):
            yield Violation(name, "", KnownFields((*COLUMNS, f"{METADATA}<key>")))
    for name in sorted({name for name in header if header.count(name) > 1}):
        yield Violation(name, f"{header.count(name)} columns", "one column")


def _csv_line(number: int, header: Sequence[str], cells: Sequence[str]) -> JobLine:
    """Return the job of a row. An empty cell is an absent field."""
    if len(cells) > len(header):
        return _bad(number, f"{len(cells)} cells", f"at most {len(header)} cells long")
    request: dict[str, Any] = {}
    metadata_cells: dict[str, str] = {}
    violations = []
    for name, cell in zip(header, cells, strict=False):
        if cell == "":
            continue
        if name.startswith(METADATA):
            metadata_cells[name] = cell
        elif isinstance(REQUEST_SCHEMA.fields.get(name, fields.String()), fields.String):
            request[name] = cell
        else:
            try:
                request[name] = parse(cell)
            except NotJson:
                violations.append(Violation(name, cell, 'JSON, such as 2 or ["a", "b"]'))
    # The column `metadata` comes first, wherever it stands.
    for name, cell in metadata_cells.items():
        if not _set_in(request, name.split("."), cell):
            allowed = "left empty: another column gives this value, or one around it or inside it"
            violations.append(Violation(name, cell, allowed))
    if violations:
        return JobLine(number, error=InvalidRequest(*violations))
    return JobLine(number, request)


def _set_in(here: Any, names: Sequence[str], value: str) -> bool:
    """Set a value in an object inside an object: `a.b` is b in a. Return whether it was free."""
    for name in names[:-1]:
        here = here.setdefault(name, {})
        if not isinstance(here, dict):
            return False
    if names[-1] in here:
        return False
    here[names[-1]] = value
    return True


def _bad(number: int, value: Any, allowed: str) -> JobLine:
    return JobLine(number, error=InvalidRequest(Violation("the line", value, allowed)))
