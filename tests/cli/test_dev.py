"""What `orchestrator dev` takes from the environment."""

from __future__ import annotations

from orchestrator.cli.dev import inherited_settings


def test_limits_and_times_are_taken_and_addresses_and_keys_are_not() -> None:
    taken = {
        "HIAPI_MAX_IN_FLIGHT": "2",
        "HIAPI_PRICES": "{}",
        "HIAPI_PRICES_FILE": "/prices",
        "ORCHESTRATOR_JOB_DEADLINE_SECONDS": "60",
    }
    others = {
        "HIAPI_API_KEY": "key",
        "HIAPI_BASE_URL": "https://api.example",
        "HIAPI_WEBHOOK_SECRET": "secret",
        "ORCHESTRATOR_REDIS_URL": "redis://redis.example",
        "ORCHESTRATOR_ADMIN_KEYS_FILE": "/keys",
        "ORCHESTRATOR_SECRET_KEYS_OLD": "old",
        "ORCHESTRATOR_DATA_DIR": "/data",
        "ORCHESTRATOR_ALLOW_PRIVATE_NETWORKS": "0",
        "PATH": "/bin",
    }

    assert inherited_settings({**taken, **others}) == taken
