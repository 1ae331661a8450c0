"""The Lua scripts agree with their headers, their conventions, and the ledger that runs them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, NamedTuple

import pytest

from orchestrator.ledger import Idempotency, Ledger, Result
from orchestrator.ledger.bulk import BulkResult
from orchestrator.ledger.circuit_breaker import HostState
from orchestrator.ledger.script import Script, load
from tests.ledger.calls import CALLS, PUBLIC, prepare
from tests.ledger.kit import DEADLINE, NOW, REQUEST
from tests.ledger.recording import RecordingClient

FOLDER = files("orchestrator.ledger") / "scripts"
TEXTS: Mapping[str, str] = {
    file.name.removesuffix(".lua"): file.read_text("utf-8")
    for file in FOLDER.iterdir()
    if file.name.endswith(".lua")
}
SCRIPTS = sorted(name for name in TEXTS if not name.startswith("_"))
#: Scripts that return no result code.
LISTS = {"agenda_counts", "due", "due_follow_ups", "hold_provider", "join", "tidy", "waits"}
LISTS |= {"obstacle", "snapshots", "waiting_add", "waiting_done"}
#: Scripts for hosts. HostState has their result codes.
HOSTS = {"host_failed", "host_probe"}
#: Scripts for the recorder of the history.
RECORDER = {"recorder_lease"}
#: Scripts for bulk actions. BulkResult has their result codes.
BULK = {"bulk_save", "bulk_start", "bulk_claim", "bulk_advance", "bulk_stop"}
#: Scripts for batches.
BATCHES = {"open_batch", "seal_batch", "complete_batch", "claim_batch", "notify_batch"}
BATCHES |= {"notify_batch_again"}
#: Scripts that are not about one job.
WITHOUT_PRELUDE = LISTS - {"waits"} | HOSTS | RECORDER | BULK | BATCHES
#: The commands of the scripts. No command scans keys or returns a random value. Only the entries of
#: a stream have the time of Redis.
ALLOWED_COMMANDS = {
    *("EXISTS", "GET", "SET", "DEL", "PEXPIRE", "PERSIST", "PUBLISH"),
    *("HGET", "HMGET", "HSET", "HSETNX", "HEXISTS", "HDEL", "HGETALL", "HINCRBY", "HINCRBYFLOAT"),
    *("ZADD", "ZREM", "ZREMRANGEBYSCORE", "ZREMRANGEBYRANK", "ZSCORE", "ZRANGE", "ZRANGEBYSCORE"),
    *("ZCARD", "ZCOUNT", "ZINCRBY", "ZMSCORE"),
    *("LRANGE", "RPUSH", "RPOP", "XADD", "XTRIM"),
}


class Header(NamedTuple):
    """The comment block at the start of a script."""

    purpose: str
    keys: list[str]
    argv: list[str]
    returns: str


def header(name: str) -> Header:
    """Return the parts of a script's header. Their order is fixed."""
    lines = TEXTS[name].splitlines()
    block = lines[: next(i for i, line in enumerate(lines) if not line.startswith("--"))]
    text = " ".join(line.removeprefix("--").strip() for line in block)
    match = re.fullmatch(r"Purpose: (.+) KEYS: (.+) ARGV: (.+) Returns: (.+)", text)
    assert match, f"{name}.lua must start with Purpose, KEYS, ARGV and Returns"
    return Header(match[1], _numbered(match[2]), _numbered(match[3]), match[4])


def _numbered(text: str) -> list[str]:
    """Return the entries of "1 now ms, 2 attempt, ...". Their numbers must have no gap."""
    entries = re.split(r", (?=\d+ )", text)
    assert [int(entry.split(" ")[0]) for entry in entries] == [*range(1, len(entries) + 1)]
    return [entry.partition(" ")[2] for entry in entries]


def code(name: str) -> str:
    """Return a script without its comments."""
    return code_of(TEXTS[name])


def code_of(text: str) -> str:
    return re.sub(r"--.*", "", text)


def highest(table: str, text: str) -> int:
    """Return the highest index of KEYS or ARGV that a script uses."""
    return max((int(number) for number in re.findall(rf"\b{table}\[(\d+)\]", text)), default=0)


def returned(name: str) -> set[str]:
    """Return the result codes in a script. A returned variable counts as all its values."""
    results: set[str] = set()
    for value in re.findall(r"return \{([^,}]+)", code(name)):
        settings = re.findall(rf"\b{re.escape(value)}(?:, \w+)* = (.+)", code(name))
        results |= set(re.findall(r"'(\w+)'", " ".join(settings or [value])))
    return results


def documented(name: str) -> set[str]:
    """Return the result codes in a script's header."""
    returns = re.sub(r"\([^)]*\)|\.\.\.", "", header(name).returns).partition(".")[0]
    return {part.split(",")[0].split()[0] for part in returns.split("|")}


def scripts_of(ledger: Ledger) -> list[Script]:
    owners = (
        ledger,
        ledger.overview,
        ledger.follow_ups,
        ledger.circuit_breaker,
        ledger.admission,
        ledger.agenda,
        ledger.changes,
        ledger.bulk,
        ledger.batches,
        ledger.creations,
        ledger.installation,
        ledger.waiting_messages,
    )
    values = [value for owner in owners for value in vars(owner).values()]
    scripts = {id(value): value for value in values if isinstance(value, Script)}
    return list(scripts.values())


def test_the_ledger_loads_every_script_once(ledger: Ledger) -> None:
    assert sorted(script.name for script in scripts_of(ledger)) == SCRIPTS


def test_an_unknown_script_cannot_be_loaded() -> None:
    with pytest.raises(FileNotFoundError):
        load("nonsense")


# Conventions ----------------------------------------------------------------------------------


def test_the_header_lists_the_keys_and_arguments_that_are_used() -> None:
    used = {
        name: (highest("KEYS", load(name).source), highest("ARGV", load(name).source))
        for name in SCRIPTS
    }

    assert used == {name: (len(header(name).keys), len(header(name).argv)) for name in SCRIPTS}


def test_every_argument_in_the_header_is_read() -> None:
    for name in SCRIPTS:
        numbers = {int(number) for number in re.findall(r"ARGV\[(\d+)\]", code(name))}
        assert numbers == set(range(1, len(header(name).argv) + 1)), name


def test_arguments_are_read_into_named_locals_first() -> None:
    for name in SCRIPTS:
        body = "\n".join(line for line in code(name).splitlines() if line.strip())
        reading = re.match(
            r"(local [^=]+=[\s\w\[\](),]*ARGV\[[^\n]*\n([ \w\[\](),]*ARGV[^\n]*\n)*)+", body
        )
        assert reading, f"{name}.lua must name its arguments first"
        assert "ARGV" not in body[reading.end() :], name


def test_scripts_about_a_job_start_with_the_keys_of_the_prelude() -> None:
    for name in set(SCRIPTS) - WITHOUT_PRELUDE:
        assert header(name).keys[:3] == ["job", "events", "agenda"], name
        assert re.search(r"local function read_\w+\(", load(name).source) or name == "create"


def test_other_scripts_have_no_prelude() -> None:
    for name in WITHOUT_PRELUDE:
        assert load(name).source.endswith(TEXTS[name])
        assert "local function read_job(" not in load(name).source
        assert "job" not in header(name).keys


def test_a_script_comes_with_the_definitions_that_it_uses_only() -> None:
    for name in SCRIPTS:
        source = load(name).source
        before = source.removesuffix(TEXTS[name])
        assert before != source
        for names in re.findall(r"^local (?:function )?([\w, ]+?)(?= =|\(|$)", before, re.M):
            uses = [re.findall(rf"\b{each}\b", code_of(source)) for each in names.split(", ")]
            assert max(map(len, uses)) > 1, f"{name}.lua does not use {names}"


def test_scripts_use_allowed_commands_only() -> None:
    commands = {
        name: {c.strip("'") for c in re.findall(r"redis\.p?call\(\s*([^,)]+)", code(name))}
        for name in TEXTS
    }

    assert {name: used - ALLOWED_COMMANDS for name, used in commands.items()} == {
        name: set() for name in TEXTS
    }
    assert set().union(*commands.values()) == ALLOWED_COMMANDS, "every allowed command is used"
    swallowed = {call for name in TEXTS for call in re.findall(r"pcall\('(\w+)'", code(name))}
    # A job of another type must not end the script of another job. PUBLISH comes after the writes.
    assert swallowed == {"HMGET", "PUBLISH"}, "an error must end the script"


def test_scripts_are_short() -> None:
    assert max(len(TEXTS[name].splitlines()) for name in SCRIPTS) <= 65


# Results --------------------------------------------------------------------------------------


def test_the_header_lists_the_results_that_are_returned() -> None:
    names = set(SCRIPTS) - LISTS

    assert {name: returned(name) for name in names} == {name: documented(name) for name in names}


def test_the_results_of_the_scripts_about_a_job_are_the_members_of_result() -> None:
    results = set().union(
        *(returned(name) for name in (set(SCRIPTS) - WITHOUT_PRELUDE | BATCHES) - LISTS)
    )

    assert results == {str(result) for result in Result}


def test_the_results_of_the_scripts_about_hosts_are_the_members_of_host_state() -> None:
    assert set().union(*(returned(name) for name in HOSTS)) == {str(state) for state in HostState}


def test_the_results_of_the_scripts_about_bulk_actions_are_the_members_of_bulk_result() -> None:
    assert set().union(*(returned(name) for name in BULK)) == {str(each) for each in BulkResult}


# Calls ----------------------------------------------------------------------------------------


def test_the_ledger_passes_the_keys_and_arguments_in_the_header(
    recorded_ledger: Ledger, recorder: RecordingClient
) -> None:
    for name in PUBLIC:
        CALLS[name](recorded_ledger, prepare(recorded_ledger, name))
    key = Idempotency("caller", "order-17")
    recorded_ledger.create(REQUEST, now=NOW, deadline_at=DEADLINE, idempotency=key)
    list(recorded_ledger.overview.snapshots(0))

    passed: dict[str, tuple[int, int]] = {}
    names = {text: s.name for s in scripts_of(recorded_ledger) for text in (s.sha, s.source)}
    for script, count, *rest in recorder.calls:
        counts = count, len(rest) - count
        assert passed.setdefault(names[script], counts) == counts
    assert passed == {n: (len(header(n).keys), len(header(n).argv)) for n in SCRIPTS}


def test_the_digest_of_a_script_is_the_digest_of_redis(ledger: Ledger, real_redis: Any) -> None:
    for script in scripts_of(ledger):
        assert real_redis.script_load(script.source) == script.sha
