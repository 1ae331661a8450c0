"""Doctor warns of settings that are allowed and dangerous, and of nothing else."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import pytest

from orchestrator.operations.doctor import examine
from orchestrator.settings.dangers import DEV_KEY, SANDBOX_KEY

SAFE = {
    "ORCHESTRATOR_API_KEYS": f"shop:{secrets.token_hex(32)}",
    "ORCHESTRATOR_PUBLIC_URL": "https://hooks.example.com",
    "ORCHESTRATOR_SECRET_KEY": secrets.token_hex(32),
    "ORCHESTRATOR_REDIS_URL": "redis://127.0.0.1:1/0",
    "HIAPI_API_KEY": "sk-of-an-account",
}
#: The settings -> a part of the warning.
DANGEROUS: Mapping[str, tuple[dict[str, str], str]] = {
    "private networks": (
        {"ORCHESTRATOR_ALLOW_PRIVATE_NETWORKS": "1"},
        "ORCHESTRATOR_ALLOW_PRIVATE_NETWORKS=1",
    ),
    "a public URL without TLS": (
        {
            "ORCHESTRATOR_ALLOW_PRIVATE_NETWORKS": "1",
            "ORCHESTRATOR_PUBLIC_URL": "http://hooks.example.com",
        },
        "ORCHESTRATOR_PUBLIC_URL has no TLS",
    ),
    "the key of dev": ({"ORCHESTRATOR_API_KEYS": f"shop:{DEV_KEY}"}, "the key of shop can be"),
    "a typed key": ({"ORCHESTRATOR_ADMIN_KEYS": "ops:changeme-changeme"}, "the key of ops can be"),
    "a key of one letter": ({"ORCHESTRATOR_API_KEYS": f"shop:{'b' * 16}"}, "the key of shop can"),
    "a typed secret": ({"ORCHESTRATOR_SECRET_KEY": "secret-secret-secret"}, "SECRET_KEY"),
    "the key of the sandbox": ({"HIAPI_API_KEY": SANDBOX_KEY}, "HIAPI_API_KEY is the key of the"),
    "a provider without TLS": (
        {"HIAPI_BASE_URL": "http://api.example.com"},
        "HIAPI_BASE_URL has no TLS",
    ),
    "an unchecked certificate": (
        {"ORCHESTRATOR_BROKER_URL": "rediss://127.0.0.1:1/0?ssl_cert_reqs=none"},
        "ORCHESTRATOR_BROKER_URL has ssl_cert_reqs=none",
    ),
    "a public broker without TLS": (
        {"ORCHESTRATOR_BROKER_URL": "amqp://u:p@8.8.8.8:1//"},
        "ORCHESTRATOR_BROKER_URL has no TLS",
    ),
}


def warnings(monkeypatch: pytest.MonkeyPatch, **settings: str) -> list[str]:
    """Return what doctor says of the safety of these settings, before it connects to anything."""
    for name, value in (SAFE | settings).items():
        monkeypatch.setenv(name, value)
    found = []
    for result in examine():
        if result.check == "archive":
            break
        if result.check == "safety":
            assert result.mark == "warning"
            assert result.fix
            found.append(result.found)
    return found


def test_safe_settings_cause_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert warnings(monkeypatch) == []


@pytest.mark.parametrize("case", DANGEROUS)
def test_a_dangerous_setting_causes_a_warning(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    settings, part = DANGEROUS[case]

    found = warnings(monkeypatch, **settings)

    assert [each for each in found if part in each], found
    assert DEV_KEY not in str(found)
    assert SAFE["ORCHESTRATOR_SECRET_KEY"] not in str(found)
