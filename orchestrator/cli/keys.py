"""`orchestrator keys`: make, list, rotate and revoke API keys."""

from __future__ import annotations

from typing import Any

import click

from orchestrator.cli.follow_ups import TimeSpan
from orchestrator.cli.output import Group, actor, as_json, line, print_json, show_table, table
from orchestrator.jsonio import rfc3339
from orchestrator.operations import keys as operations
from orchestrator.operations.keys import UnknownKey
from orchestrator.runtime import default_runtime
from orchestrator.security.api_keys import DEFAULT_SCOPES, ApiKey, Scope

_SCOPES = ", ".join(scope.value for scope in Scope)


@click.group(cls=Group)
def keys() -> None:
    """Make, list, rotate and revoke API keys.

    A key belongs to one tenant. Only its digest is stored. Every process knows a change within 5
    seconds, without a restart. Keys of ORCHESTRATOR_API_KEYS are not listed here.
    """


@keys.command()
@click.option("--tenant", required=True, help="The owner of the key and of its jobs.")
@click.option(
    "--scopes",
    default=",".join(sorted(DEFAULT_SCOPES)),
    show_default=True,
    help=f"What the key allows: {_SCOPES}, separated by commas.",
)
@click.option("--name", default="", help="A name that you recognise.")
@click.option(
    "--expires", type=TimeSpan(), metavar="SPAN", help="The key ends after 90d.  [default: never]"
)
@as_json
def create(*, tenant: str, scopes: str, name: str, expires: int | None, json_: bool) -> None:
    """Make a key and print it. It is shown only once.

    \b
    orchestrator keys create --tenant shop --name "shop, production" --expires 90d
    """
    key, record = operations.create_key(
        default_runtime(),
        actor=actor(),
        tenant=tenant,
        scopes=scopes.split(","),
        name=name,
        expires_in_ms=None if expires is None else expires * 1000,
    )
    _print_new(key, record, json_=json_)


@keys.command(name="list")
@click.option("--tenant", help="Only keys of this tenant.")
@as_json
def list_(tenant: str | None, json_: bool) -> None:
    """List the keys, oldest first."""
    runtime = default_runtime()
    now, listed = runtime.clock(), operations.list_keys(runtime, tenant)
    if json_:
        print_json({"keys": [_view(key, now) for key in listed]})
        return
    shown = table("id", "tenant", "name", "scopes", "created", "expires", "state")
    for key in listed:
        view = _view(key, now)
        scopes = ",".join(view["scopes"])
        times = view["created_at"], view["expires_at"] or "never"
        shown.add_row(key.id, key.tenant, key.name, scopes, *times, view["state"])
    whose = f" of {tenant}" if tenant else ""
    show_table(
        shown, empty=f"No key{whose} is stored here. Make one: orchestrator keys create --help"
    )


@keys.command()
@click.argument("key_id")
@as_json
def revoke(key_id: str, json_: bool) -> None:
    """Refuse a key from now on. Exit status 0 only if it was in use."""
    try:
        key = operations.revoke_key(default_runtime(), key_id, actor=actor())
    except UnknownKey as error:
        raise click.ClickException(str(error)) from None
    if json_:
        print_json({"revoked": key.id})
    else:
        line(f"{key.id} of {key.tenant} is revoked")


@keys.command()
@click.argument("key_id")
@click.option(
    "--overlap",
    type=TimeSpan(),
    default="24h",
    show_default=True,
    metavar="SPAN",
    help="The old key works for this time, so that you can move its users.",
)
@as_json
def rotate(key_id: str, overlap: int, json_: bool) -> None:
    """Make a key in the place of another one, and print it. The old one ends after --overlap."""
    runtime = default_runtime()
    try:
        made = operations.rotate_key(runtime, key_id, actor=actor(), overlap_ms=overlap * 1000)
    except UnknownKey as error:
        raise click.ClickException(str(error)) from None
    _print_new(*made, json_=json_)


def _print_new(key: str, record: ApiKey, *, json_: bool) -> None:
    if json_:
        print_json({"key": key, **_view(record, record.created_at)})
        return
    line(key)
    line(f"{record.id} of {record.tenant}. The key is not shown again.", err=True)


def _view(key: ApiKey, now: int) -> dict[str, Any]:
    return {
        "id": key.id,
        "tenant": key.tenant,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "created_at": rfc3339(key.created_at),
        "expires_at": rfc3339(key.expires_at),
        "revoked_at": rfc3339(key.revoked_at),
        "state": key.refusal(now) or "in use",
    }
