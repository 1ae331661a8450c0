"""The Lua files hold to their headers, to each other and to the ledger that runs them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, NamedTuple

import pytest

from orchestrator.ledger import Idempotency, Ledger, Result
from orchestrator.ledger.circuit_breaker import HostState
from orchestrator.ledger.script import Script, load
from tests.ledger.calls import CALLS, PUBLIC, prepared
from tests.ledger.kit import DEADLINE, NOW, REQUEST, Wire

FOLDER = files("orchestrator.ledger") / "scripts"
TEXTS: Mapping[str, str] = {
    file.name.removesuffix(".lua"): file.read_text("utf-8")
    for file in FOLDER.iterdir()
    if file.name.endswith(".lua")
}
PRELUDE = "_prelude"
SCRIPTS = sorted(set(TEXTS) - {PRELUDE})
#: Those that are not about one job: lists, and those about hosts, with results of their own.
LISTS = {"due", "due_archive", "tidy"}
HOSTS = {"host_failed", "host_probe"}
BARE = LISTS | HOSTS
#: What a script may ask of Redis: nothing that walks over keys, tells the time, or rolls dice.
ALLOWED = {
    *("EXISTS", "GET", "SET", "DEL", "PEXPIRE", "PERSIST", "PUBLISH"),
    *("HGET", "HMGET", "HSET", "HSETNX", "HDEL", "HGETALL", "HINCRBY"),
    *("ZADD", "ZREM", "ZSCORE", "ZRANGE", "ZRANGEBYSCORE"),
    *("RPUSH", "LLEN"),
}


class Header(NamedTuple):
    """The comment block that opens a script."""

    purpose: str
    keys: list[str]
    argv: list[str]
    returns: str


def header(name: str) -> Header:
    """Parse a header; its parts stand in this order and no other."""
    lines = TEXTS[name].splitlines()
    block = lines[: next(i for i, line in enumerate(lines) if not line.startswith("--"))]
    text = " ".join(line.removeprefix("--").strip() for line in block)
    found = re.fullmatch(r"Purpose: (.+) KEYS: (.+) ARGV: (.+) Returns: (.+)", text)
    assert found, f"{name}.lua does not open with Purpose, KEYS, ARGV and Returns"
    return Header(found[1], _numbered(found[2]), _numbered(found[3]), found[4])


def _numbered(text: str) -> list[str]:
    """The entries of "1 now ms, 2 attempt, ...", which must be numbered without a gap."""
    entries = re.split(r", (?=\d+ )", text)
    assert [int(entry.split(" ")[0]) for entry in entries] == [*range(1, len(entries) + 1)]
    return [entry.partition(" ")[2] for entry in entries]


def code(name: str) -> str:
    """A script without its comments."""
    return re.sub(r"--.*", "", TEXTS[name])


def highest(what: str, text: str) -> int:
    return max((int(number) for number in re.findall(rf"\b{what}\[(\d+)\]", text)), default=0)


def returned(name: str) -> set[str]:
    """The results in a script's return statements; a variable stands for what it is set to."""
    results: set[str] = set()
    for value in re.findall(r"return \{([^,}]+)", code(name)):
        settings = re.findall(rf"\b{re.escape(value)}(?:, \w+)* = (.+)", code(name))
        results |= set(re.findall(r"'(\w+)'", " ".join(settings or [value])))
    return results


def describe(name: str) -> set[str]:
    """The results that a script's header lists."""
    told = re.sub(r"\([^)]*\)|\.\.\.", "", header(name).returns).partition(".")[0]
    return {part.split(",")[0].split()[0] for part in told.split("|")}


def scripts_of(ledger: Ledger) -> list[Script]:
    parts = (ledger, ledger.overview, ledger.follow_ups, ledger.circuit_breaker)
    held = [value for part in parts for value in vars(part).values()]
    return [value for value in held if isinstance(value, Script)]


def test_the_ledger_loads_every_script_once(ledger: Ledger) -> None:
    assert sorted(script.name for script in scripts_of(ledger)) == SCRIPTS


def test_a_script_that_is_not_there_cannot_be_loaded() -> None:
    with pytest.raises(FileNotFoundError):
        load("nonsense")


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_header_lists_the_keys_and_arguments_that_are_used(name: str) -> None:
    assert highest("KEYS", load(name).source) == len(header(name).keys)
    assert highest("ARGV", load(name).source) == len(header(name).argv)


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_argument_in_the_header_is_read(name: str) -> None:
    numbers = {int(number) for number in re.findall(r"ARGV\[(\d+)\]", code(name))}

    assert numbers == set(range(1, len(header(name).argv) + 1))


@pytest.mark.parametrize("name", SCRIPTS)
def test_arguments_are_read_into_named_locals_first(name: str) -> None:
    body = "\n".join(line for line in code(name).splitlines() if line.strip())
    reading = re.match(
        r"(local [^=]+=[\s\w\[\](),]*ARGV\[[^\n]*\n([ \w\[\](),]*ARGV[^\n]*\n)*)+", body
    )

    assert reading, "the first statement names the arguments"
    assert "ARGV" not in body[reading.end() :]


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in BARE])
def test_scripts_about_a_job_begin_with_the_preludes_keys(name: str) -> None:
    assert header(name).keys[:3] == ["job", "events", "agenda"]
    assert load(name).source.startswith(TEXTS[PRELUDE])


def test_scripts_that_are_not_about_a_job_do_without_the_prelude() -> None:
    for name in BARE:
        assert load(name).source == TEXTS[name]
        assert "job" not in header(name).keys


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in LISTS])
def test_the_header_lists_the_results_that_are_returned(name: str) -> None:
    assert returned(name) == describe(name)


def test_the_results_of_the_scripts_are_the_members_of_the_enum() -> None:
    assert set().union(*(returned(name) for name in SCRIPTS if name not in BARE)) == {
        str(result) for result in Result
    }


def test_the_results_of_the_scripts_about_hosts_are_the_members_of_their_enum() -> None:
    assert set().union(*(returned(name) for name in HOSTS)) == {str(state) for state in HostState}


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_scripts_use_only_commands_that_are_cheap_and_certain(name: str) -> None:
    commands = re.findall(r"redis\.p?call\(\s*([^,)]+)", code(name))

    assert {command.strip("'") for command in commands} <= ALLOWED
    assert "pcall" not in code(name), "an error must end the script"


def test_no_command_is_allowed_in_vain() -> None:
    used = set(re.findall(r"redis\.call\('(\w+)'", "\n".join(map(code, TEXTS))))

    assert used == ALLOWED


def test_the_ledger_passes_what_the_headers_list(wired: Ledger, wire: Wire) -> None:
    for name in set(PUBLIC) - {"server"}:  # fakeredis has no INFO, and no script is behind it
        CALLS[name](wired, prepared(wired, name))
    key = Idempotency("caller", "order-17")
    wired.create(REQUEST, now=NOW, deadline_at=DEADLINE, idempotency=key)

    passed: dict[str, tuple[int, int]] = {}
    names = {way: s.name for s in scripts_of(wired) for way in (s.sha, s.source)}
    for script, count, *rest in wire.calls:
        counts = count, len(rest) - count
        assert passed.setdefault(names[script], counts) == counts
    assert passed == {n: (len(header(n).keys), len(header(n).argv)) for n in SCRIPTS}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_small_enough_to_be_read_at_once(name: str) -> None:
    assert len(TEXTS[name].splitlines()) <= 60


def test_a_script_is_known_by_the_digest_that_redis_gives_it(
    ledger: Ledger, real_redis: Any
) -> None:
    for script in scripts_of(ledger):
        assert real_redis.script_load(script.source) == script.sha
