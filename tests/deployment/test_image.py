"""The Dockerfile and .dockerignore, read; no engine is needed."""

from __future__ import annotations

import json
import re
import tomllib

from packaging.specifiers import SpecifierSet

from orchestrator.cli.processes import PROCESSES
from orchestrator.cli.stack import ROOT
from tests.deployment.kit import (
    copied,
    in_context,
    instructions,
    services,
    text,
    variables,
)
from tests.support.cases import for_each

PACKAGES = ("orchestrator", "workers", "webhooks")


def test_it_runs_web_for_callers_outside_of_the_container() -> None:
    (command,) = instructions("CMD")
    assert json.loads(command.rest) == ["orchestrator", "web"]
    assert variables("ENV")["HOST"] == "0.0.0.0"


def test_it_runs_as_the_user_that_the_compose_file_names_and_not_as_root() -> None:
    (user,) = instructions("USER")
    assert user.rest == "10001:10001"
    assert {services()[name]["user"] for name in PROCESSES} == {user.rest}


def test_that_user_has_a_name_and_owns_the_data() -> None:
    made = " ".join(instruction.rest for instruction in instructions("RUN"))
    assert re.search(r"groupadd --gid 10001 ", made)
    assert re.search(r"useradd --uid 10001 --gid 10001 ", made)
    assert re.search(r"install --directory --owner 10001 --group 10001 /data\b", made)


def test_data_goes_to_the_volume() -> None:
    (volume,) = instructions("VOLUME")
    inside = {services()[name]["environment"]["ORCHESTRATOR_DATA_DIR"] for name in PROCESSES}
    assert {variables("ENV")["ORCHESTRATOR_DATA_DIR"]} == inside == {volume.rest}


def test_logs_are_not_held_back() -> None:
    assert variables("ENV")["PYTHONUNBUFFERED"] == "1"


def test_it_holds_no_secret() -> None:
    named = {**variables("ENV"), **variables("ARG")}
    assert not [name for name in named if re.search(r"KEY|SECRET|TOKEN|PASSWORD", name)]


def test_every_stage_begins_with_the_same_python_which_our_package_accepts() -> None:
    (base,) = {instruction.arguments[0] for instruction in instructions("FROM")}
    found = re.fullmatch(r"python:(3\.\d+)-slim-bookworm", base)
    accepted = tomllib.loads(text("pyproject.toml"))["project"]["requires-python"]
    assert found
    assert found[1] in SpecifierSet(accepted)


def test_it_installs_the_locked_dependencies_and_builds_ours_without_a_registry() -> None:
    pip = [i.arguments for i in instructions("RUN") if i.arguments[:2] == ["pip", "install"]]
    locked, ours = pip
    assert locked[2:] == ["--require-hashes", "--no-deps", "-r", "requirements.lock"]
    assert {"--no-deps", "--no-index", "--no-build-isolation", "."} < set(ours)


def test_it_copies_only_what_exists_and_what_docker_is_shown() -> None:
    sources = list(copied())
    assert [path for path in sources if not (ROOT / path).exists()] == []
    assert [path for path in sources if not in_context(path)] == []


def test_everything_of_our_packages_is_in_the_context_and_copied() -> None:
    files = [
        str(file.relative_to(ROOT))
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    ]
    assert set(PACKAGES) <= set(copied())
    assert [path for path in files if not in_context(path)] == []


@for_each(
    "path",
    [
        ".env",
        ".env.example",
        ".git/config",
        ".venv/bin/python",
        "data/redis/appendonly.aof",
        "docker-compose.yml",
        "id_rsa",
        "orchestrator/__pycache__/jobs.cpython-312.pyc",
        "orchestrator/ledger/__pycache__/keys.cpython-312.pyc",
        "sandbox/app.py",
        "tests/conftest.py",
    ],
)
def test_docker_is_not_shown(path: str) -> None:
    assert not in_context(path)
