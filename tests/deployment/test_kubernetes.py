"""deploy/kubernetes: built with kustomize, and checked by the schemas of Kubernetes.

No cluster runs: `kubectl kustomize` needs none. The schemas are in the package kubernetes-validate.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import kubernetes_validate
import pytest
import yaml
from dotenv import dotenv_values

from orchestrator.api.incoming import MAX_WAIT_SECONDS
from orchestrator.cli import main
from orchestrator.cli.processes import PROCESSES
from orchestrator.cli.stack import ROOT
from orchestrator.metrics import DEFINITIONS
from orchestrator.settings.settings import MIB, Settings
from tests.deployment.kit import example, seconds, services, unescaped
from tests.deployment.test_environment import FILLED
from webhooks.receiver import MAX_LONG_BYTES

FOLDER = ROOT / "deploy/kubernetes"
EXAMPLE = FOLDER / "overlays/example"
#: The server for agents. It is no process of the installation.
MCP = "mcp"
#: The oldest and the newest version whose schemas are asked.
VERSIONS = ("1.30", "1.37")

Manifest = dict[str, Any]


@cache
def manifests() -> tuple[Manifest, ...]:
    """Build the example."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed. It builds the manifests without a cluster.")
    command = ["kubectl", "kustomize", str(EXAMPLE)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return tuple(yaml.safe_load_all(built.stdout))


def of_kind(kind: str) -> Mapping[str, Manifest]:
    return {each["metadata"]["name"]: each for each in manifests() if each["kind"] == kind}


def pods() -> Iterator[tuple[str, Manifest]]:
    for name, each in {**of_kind("Deployment"), **of_kind("StatefulSet")}.items():
        yield name, each["spec"]["template"]


def container(name: str) -> Manifest:
    [found] = of_kind("Deployment")[name]["spec"]["template"]["spec"]["containers"]
    only: Manifest = found
    return only


def config(name: str) -> Manifest:
    """Return the ConfigMap of a component. Its name has a suffix from its content."""
    start = f"orchestrator-{name}-"
    [found] = [each for key, each in of_kind("ConfigMap").items() if key.startswith(start)]
    return {"name": found["metadata"]["name"], "data": found["data"]}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_schemas_of_kubernetes_accept_every_manifest(version: str) -> None:
    for each in manifests():
        kubernetes_validate.validate(each, version, strict=True)


def test_the_schemas_refuse_an_unknown_field() -> None:
    wrong = yaml.safe_load((FOLDER / "base/service-account.yaml").read_text("utf-8"))
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**wrong, "replicas": 1}, VERSIONS[-1], strict=True)


def test_every_process_has_a_deployment_that_runs_its_command() -> None:
    assert set(of_kind("Deployment")) == {*PROCESSES, MCP}
    for name in PROCESSES:
        assert container(name)["command"] == ["orchestrator", name]
        assert name in main.commands


def test_the_probes_ask_what_the_process_answers() -> None:
    for name in PROCESSES:
        probes = {key: value for key, value in container(name).items() if key.endswith("Probe")}
        assert {"startupProbe", "livenessProbe"} <= set(probes)
        for probe in probes.values():
            if name == "web":
                assert probe["httpGet"] == {"path": "/healthz", "port": "http"}
            else:
                assert probe["exec"]["command"] == ["orchestrator", "alive", name]
    assert "alive" in main.commands
    [port] = container("web")["ports"]
    listening = {each["name"]: each["value"] for each in container("web")["env"]}
    assert (listening["HOST"], listening["PORT"]) == ("0.0.0.0", str(port["containerPort"]))


def test_a_process_has_time_to_stop() -> None:
    pause = int(container("web")["lifecycle"]["preStop"]["exec"]["command"][1])
    for name in PROCESSES:
        given = of_kind("Deployment")[name]["spec"]["template"]["spec"]
        needed = seconds(services()[name]["stop_grace_period"]) + pause
        assert given["terminationGracePeriodSeconds"] >= max(needed, MAX_WAIT_SECONDS)


def test_no_pod_is_root_or_can_become_it() -> None:
    for name, pod in pods():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for each in spec["containers"]:
            assert each["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert each["resources"]["requests"].keys() == {"cpu", "memory"}
            assert each["resources"]["limits"].keys() == {"memory"}


def test_the_processes_have_the_user_of_the_image() -> None:
    for name in PROCESSES:
        context = of_kind("Deployment")[name]["spec"]["template"]["spec"]["securityContext"]
        user = f"{context['runAsUser']}:{context['runAsGroup']}"
        assert user == services()[name]["user"]


def test_the_server_for_agents_runs_as_with_docker_and_has_no_secret() -> None:
    pod, docker = of_kind("Deployment")[MCP]["spec"]["template"], services()[MCP]
    only = container(MCP)
    assert " ".join(only["command"]) == docker["command"]
    assert pod["metadata"]["labels"] == {"app.kubernetes.io/name": MCP}  # others reach Redis
    assert [each["configMapRef"]["name"] for each in only["envFrom"]] == [config(MCP)["name"]]
    assert {each["name"]: each["value"] for each in only["env"]} == {
        "ORCHESTRATOR_MCP_API_URL": docker["environment"]["ORCHESTRATOR_MCP_API_URL"]
    }
    assert not any("secret" in volume for volume in pod["spec"]["volumes"])
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert only[probe]["httpGet"] == {"path": "/healthz", "port": "http"}
    pause = int(only["lifecycle"]["preStop"]["exec"]["command"][1])
    stop = seconds(docker["stop_grace_period"]) + pause
    assert pod["spec"]["terminationGracePeriodSeconds"] >= stop


def test_agents_reach_their_server_under_a_name_that_it_accepts() -> None:
    [rule] = of_kind("Ingress")[MCP]["spec"]["rules"]
    assert config(MCP)["data"] == {"ORCHESTRATOR_MCP_HOSTS": rule["host"]}
    [path] = rule["http"]["paths"]
    assert path["path"] == "/mcp"
    assert path["backend"]["service"]["name"] in of_kind("Service")


def test_there_is_never_a_second_beat() -> None:
    spec = of_kind("Deployment")["beat"]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_what_a_pod_refers_to_exists() -> None:
    maps, secrets = set(of_kind("ConfigMap")), set(of_kind("Secret"))
    for name in PROCESSES:
        for source in container(name)["envFrom"]:
            kind, known = (
                ("configMapRef", maps) if "configMapRef" in source else ("secretRef", secrets)
            )
            assert source[kind]["name"] in known
        volumes = of_kind("Deployment")[name]["spec"]["template"]["spec"]["volumes"]
        assert {v["secret"]["secretName"] for v in volumes if "secret" in v} <= secrets


def test_services_budgets_and_policies_select_pods() -> None:
    labels = [pod["metadata"]["labels"].items() for _, pod in pods()]

    def selects(wanted: Mapping[str, str]) -> bool:
        return any(wanted.items() <= each for each in labels)

    for service in of_kind("Service").values():
        assert selects(service["spec"].get("selector", {}))
    for budget in of_kind("PodDisruptionBudget").values():
        assert selects(budget["spec"]["selector"]["matchLabels"])
    for policy in of_kind("NetworkPolicy").values():
        assert selects(policy["spec"]["podSelector"].get("matchLabels", {}))


def test_workers_are_added_by_a_metric_that_exists() -> None:
    scaler = of_kind("HorizontalPodAutoscaler")["worker"]["spec"]
    [metric] = scaler["metrics"]
    name = metric["external"]["metric"]["name"]
    values = (FOLDER / "components/autoscaling/prometheus-adapter.yaml").read_text("utf-8")
    [rule] = yaml.safe_load(values)["rules"]["external"]
    assert DEFINITIONS[name].kind == "gauge"
    assert {rule["seriesQuery"], rule["name"]["as"]} == {name}
    for name, each in of_kind("HorizontalPodAutoscaler").items():
        target = of_kind(each["spec"]["scaleTargetRef"]["kind"])[name]
        assert "replicas" not in target["spec"], "an apply would undo the autoscaler"


def test_redis_keeps_what_it_keeps_with_docker() -> None:
    [redis] = of_kind("StatefulSet")["redis"]["spec"]["template"]["spec"]["containers"]
    given, wanted = " ".join(redis["args"]), unescaped(services()["redis"]["command"])
    for name, value in zip(wanted[1::2], wanted[2::2], strict=True):
        if name != "--maxmemory":
            assert f"{name} {value}" in given


def test_the_settings_exist_and_no_secret_is_given() -> None:
    settings = dotenv_values(EXAMPLE / "settings.env")
    secrets = dotenv_values(EXAMPLE / "secrets.env")
    known = set(example(with_defaults=True))
    for name in {*settings, *secrets}:
        assert name.removesuffix("_FILE") in known or name.startswith("AWS_")
    assert not any(secrets.values())
    assert (EXAMPLE / "hiapi-api-key").read_text("utf-8") == "replace-me"


def test_with_its_blanks_filled_the_example_is_an_installation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secrets = dotenv_values(EXAMPLE / "secrets.env")
    history = {"ORCHESTRATOR_HISTORY_URL": "postgresql+psycopg://user:password@host/database"}
    values = {
        **dotenv_values(EXAMPLE / "settings.env"),
        **{name: {**FILLED, **history}.get(name) for name in secrets},
        "HIAPI_API_KEY_FILE": str(EXAMPLE / "hiapi-api-key"),
    }
    for name, value in values.items():
        if value:
            monkeypatch.setenv(name, value)
    settings = Settings.from_env()
    assert set(settings.providers) == {"hiapi"}
    assert settings.archive_url.startswith("s3://")
    assert settings.history_url == history["ORCHESTRATOR_HISTORY_URL"]
    assert settings.public_url


def test_the_ingress_lets_the_largest_request_through() -> None:
    notes = of_kind("Ingress")["web"]["metadata"]["annotations"]
    prefix = "nginx.ingress.kubernetes.io"
    assert int(notes[f"{prefix}/proxy-body-size"].removesuffix("m")) * MIB >= MAX_LONG_BYTES
