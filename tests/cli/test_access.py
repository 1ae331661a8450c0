"""`orchestrator keys`, `tenants` and `audit`: one line per mistake, and no secret in sight."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import main
from orchestrator.security import standard_webhooks
from orchestrator.security.api_keys import digest
from tests.support import job_states
from tests.support.fakes import Harness
from tests.support.providers import EXAMPLE_REQUESTS

module = importlib.import_module("orchestrator.cli.tenants")


@pytest.fixture
def cli(start: Callable[..., Harness]) -> Harness:
    """The commands on a harness with prices of one provider."""
    return start(HIAPI_PRICES='{"unit": "credits", "prices": {"Nano-Banana-2": 1.5}}')


def run(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(main, arguments, **options)


def json_of(*arguments: str, **options: Any) -> Any:
    """Return the JSON that a command prints."""
    result = run(*arguments, "--json", **options)
    assert result.exit_code == 0, result.output
    return orjson.loads(result.stdout)


def test_a_key_is_printed_once_and_then_only_described(cli: Harness) -> None:
    arguments = ("--tenant", "shop", "--scopes", "jobs:read", "--name", "till", "--expires", "90d")
    made = run("keys", "create", *arguments)

    key = made.stdout.strip()
    [listed] = json_of("keys", "list")["keys"]

    assert digest(key) in cli.ledger.access.read().keys
    assert (listed["tenant"], listed["name"], listed["scopes"]) == ("shop", "till", ["jobs:read"])
    assert (listed["state"], listed["expires_at"]) == ("in use", "2027-02-28T00:53:20.000Z")
    assert key not in run("keys", "list").output


def test_a_key_is_rotated_and_revoked(cli: Harness) -> None:
    first = json_of("keys", "create", "--tenant", "shop")
    second = json_of("keys", "rotate", first["id"], "--overlap", "1h")
    json_of("keys", "revoke", second["id"])

    cli.clock.forward(3600)
    states = {
        key["id"]: key["state"] for key in json_of("keys", "list", "--tenant", "shop")["keys"]
    }

    assert states == {first["id"]: "expired", second["id"]: "revoked"}
    again = run("keys", "revoke", second["id"])
    assert (again.exit_code, "is revoked already" in again.output) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["keys", "create", "--tenant", "a b"], "tenant must be 1 to 64 letters"),
        (["keys", "create", "--tenant", "a", "--scopes", "job:read"], "did you mean jobs:read?"),
        (["keys", "create", "--tenant", "a", "--scopes", ""], "scopes must be"),
        (["keys", "create", "--tenant", "a", "--expires", "0d"], "expires must be a time span"),
        (["keys", "revoke", "key_0"], "there is no key 'key_0'"),
        (["tenants", "set", "a", "--max-open", "0"], "max_open must be a whole number from 1"),
        (["tenants", "set", "a", "--max-open=-1"], "max_open must be a whole number from 1"),
        (["tenants", "set", "a", "--max-open", "many"], "max_open must be a whole number from 1"),
        (["tenants", "set", "a", "--requests-per-second", "0"], "requests_per_second must be"),
        (["tenants", "set", "a", "--requests-per-second", "nan"], "requests_per_second must be"),
        (["tenants", "set", "a", "--notify-secret", "hush"], "notify_secret must be whsec_"),
        (["tenants", "set", "a", "--daily-budget", "hiap=5"], "did you mean hiapi?"),
        (["tenants", "set", "a", "--daily-budget", "hiapi=5 USD"], "above 0 in credits"),
        (["tenants", "set", "a", "--daily-budget", "hiapi=0"], "above 0 in credits"),
        (["tenants", "set", "a", "--daily-budget", "hiapi=-1"], "above 0 in credits"),
        (["tenants", "set", "a", "--daily-budget", "hiapi=many"], "above 0 in credits"),
        (["tenants", "set", "a", "--daily-budget", "evolink=5"], "set EVOLINK_PRICES"),
        (["tenants", "set", "a", "--daily-budget", "hiapi"], "'hiapi' is not PROVIDER=AMOUNT"),
        (["tenants", "set", "a"], "name at least one setting"),
        (["enqueue", "--tenant", "a b", "--provider", "hiapi", "--model", "x"], "tenant must be"),
    ],
)
def test_a_mistake_is_one_line(cli: Harness, arguments: list[str], line: str) -> None:
    result = run(*arguments)

    assert result.exit_code == (1 if "revoke" in arguments else 2)
    assert line in result.output.splitlines()[-1]
    assert "hush" not in result.output
    assert cli.ledger.access.read().keys == {}
    assert cli.ledger.access.read().tenants == {}


def test_limits_are_set_and_removed_one_by_one(cli: Harness) -> None:
    json_of("tenants", "set", "shop", "--max-open", "5", "--requests-per-second", "0.5")
    json_of("tenants", "set", "shop", "--max-open", "none")

    views = {view["tenant"]: view for view in json_of("tenants", "list")["tenants"]}

    limits: dict[str, object] = {"max_open": None, "requests_per_second": 0.5, "daily_budgets": {}}
    assert views["shop"]["limits"] == limits
    assert set(views) == {"shop", "tests"}, "a key of the environment is a tenant too"


def test_enqueue_over_a_limit_is_one_line(cli: Harness) -> None:
    json_of("tenants", "set", "shop", "--max-open", "1")
    request = [f"--{name}={value}" for name, value in EXAMPLE_REQUESTS["hiapi"].items()]
    assert run("enqueue", "--tenant", "shop", *request).exit_code == 0

    result = run("enqueue", "--tenant", "shop", *request)

    assert result.exit_code == 1
    assert result.output == (
        "Error: the tenant shop has reached its limit max_open: 1 open jobs; try again when one"
        " ends\n"
    )


def test_a_budget_has_the_unit_of_the_prices(cli: Harness) -> None:
    json_of("tenants", "set", "shop", "--daily-budget", "hiapi=3", "--max-open", "9")
    request = [f"--{name}={value}" for name, value in EXAMPLE_REQUESTS["hiapi"].items()]
    codes = [run("enqueue", "--tenant", "shop", *request).exit_code for _ in range(3)]

    [view] = [v for v in json_of("tenants", "list")["tenants"] if v["tenant"] == "shop"]
    table = run("tenants", "list").output
    removed = json_of("tenants", "set", "shop", "--daily-budget", "hiapi=none")

    assert codes == [0, 0, 1]
    budget = {"amount": 3.0, "unit": "credits", "spent": 3.0}
    assert view["limits"]["daily_budgets"] == {"hiapi": budget}
    assert "hiapi: 3 of 3 credits" in table
    assert removed["limits"]["daily_budgets"] == {}


def test_two_budgets_of_a_provider_are_refused(cli: Harness) -> None:
    given = ("--daily-budget", "hiapi=3")

    result = run("tenants", "set", "shop", *given, "--daily-budget", "hiapi=5")

    assert result.exit_code == 2
    assert "hiapi has two budgets" in result.output
    assert run("tenants", "set", "shop", *given).exit_code == 0


def test_a_piped_secret_that_is_no_text_is_refused(cli: Harness) -> None:
    result = run("tenants", "set", "shop", "--notify-secret", "-", input=b"\xff")

    assert result.exit_code == 2
    assert "notify_secret must be utf-8 text" in result.output


def test_a_new_secret_signs_beside_the_old_one_for_a_day(cli: Harness) -> None:
    old = json_of("tenants", "set", "shop", "--notify-secret", "new")["notify_secret"]
    new = standard_webhooks.new_secret()
    result = run("tenants", "set", "shop", "--notify-secret", "-", input=f"{new}\n")

    def signing() -> list[str]:
        tenant = cli.ledger.access.read().tenant("shop")
        return [secret.reveal() for secret in tenant.secrets(cli.clock())]

    assert new not in result.output
    assert signing() == [new, old]
    cli.clock.forward(86_400)
    assert signing() == [new]
    json_of("tenants", "set", "shop", "--notify-secret", "none")
    assert signing() == []


def test_the_audit_trail_tells_who_changed_what_without_secrets(cli: Harness) -> None:
    job_id = cli.enqueue()
    key = json_of("keys", "create", "--tenant", "shop")
    run("tenants", "set", "shop", "--max-open", "7", "--notify-secret", "new")
    json_of("cancel", job_id)

    entries = json_of("audit")["entries"]

    assert [(entry["action"], entry["target"]) for entry in entries] == [
        ("cancel", job_id),
        ("tenant_set", "shop"),
        ("key_create", key["id"]),
    ]
    assert all(entry["actor"].startswith("cli:") for entry in entries)
    assert (entries[1]["max_open"], entries[1]["notify_secret"]) == ("7", "***")
    assert key["key"] not in str(entries)
    shown = " ".join(run("audit").output.split())
    assert all(entry[name] in shown for entry in entries for name in ("at", "action", "target"))
    assert "max_open=7" in shown
    assert [entry["action"] for entry in json_of("audit", "--limit", "1")["entries"]] == ["cancel"]


def test_a_tenant_is_erased_after_a_question(cli: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, kept = job_states.cancelled(cli, tenant="shop"), cli.enqueue(tenant="shop")

    refused = run("tenants", "erase", "shop")
    assert refused.exit_code == 2
    assert "use --yes or --dry-run" in refused.stderr
    counted = json_of("tenants", "erase", "shop", "--dry-run")
    assert counted == {"tenant": "shop", "jobs": 1, "files": 0, "kept": [kept], "dry_run": True}
    monkeypatch.setattr(module, "has_terminal", lambda: True)
    assert run("tenants", "erase", "shop", input="n\n").exit_code == 1
    assert cli.ledger.overview.existing([gone])

    erased = run("tenants", "erase", "shop", input="y\n")

    assert erased.exit_code == 1, "a job is left"
    assert f"{kept}: kept; it is open" in erased.stderr
    assert "jobs deleted: 1, files: 0, kept: 1" in erased.stdout
    cli.ledger.cancel(kept, now=cli.clock.now)
    assert json_of("tenants", "erase", "shop", "--yes")["jobs"] == 1
    assert cli.ledger.overview.existing([gone, kept]) == set()


def test_a_tenant_that_nobody_knows_is_named(cli: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = job_states.cancelled(cli, tenant="shop")
    monkeypatch.setattr(module, "has_terminal", lambda: True)

    other = run("tenants", "erase", "Shop", "--yes")
    assert (other.exit_code, "No job of Shop was found" in other.stderr) == (0, True)
    wrong = run("tenants", "erase", "no name")
    assert wrong.exit_code == 2
    assert "Delete the jobs" not in wrong.output, "nobody is asked"
    assert cli.ledger.overview.existing([job_id])
