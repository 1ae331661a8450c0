"""`orchestrator rejected`: messages that were verified but could not be read."""

from __future__ import annotations

import click

from orchestrator.cli.number_options import WholeNumber
from orchestrator.cli.output import Group, actor, as_json, line, print_json, show_table, table
from orchestrator.jsonio import rfc3339
from orchestrator.operations import rejected as operations
from orchestrator.operations.rejected import NotReplayable, UnknownMessage, rejected_view
from orchestrator.runtime import default_runtime


@click.group(cls=Group)
def rejected() -> None:
    """List, replay and delete messages that were verified but could not be read.

    \b
    orchestrator rejected list
    orchestrator rejected show MESSAGE_ID
    orchestrator rejected replay MESSAGE_ID   after an update of the adapter
    """


@rejected.command("list")
@click.option("--limit", type=WholeNumber(1, 1000), default=20, show_default=True)
@as_json
def list_(limit: int, json_: bool) -> None:
    """List the newest messages, newest first."""
    messages = default_runtime().ledger.rejected.page(limit)
    if json_:
        print_json({"messages": [rejected_view(message) for message in messages]})
        return
    shown = table("message", "kind", "arrived", "provider", "reason")
    for each in messages:
        provider = each.context.get("provider", "")
        shown.add_row(each.id, each.kind, rfc3339(each.at), provider, each.reason)
    show_table(shown, empty="No message was rejected.")


@rejected.command()
@click.argument("message_id")
@as_json
def show(message_id: str, json_: bool) -> None:
    """Show a message with the start of its body."""
    try:
        view = rejected_view(operations.find_rejected(default_runtime(), message_id))
    except UnknownMessage as error:
        raise click.ClickException(str(error)) from None
    if json_:
        print_json(view)
        return
    for name, value in view.items():
        line(f"{name}: {value}")


@rejected.command()
@click.argument("message_id")
@as_json
def replay(message_id: str, json_: bool) -> None:
    """Read a message again, and delete it. Exit status 0 only if it was accepted."""
    try:
        result = operations.replay_rejected(default_runtime(), message_id, actor=actor())
    except (UnknownMessage, NotReplayable) as error:
        raise click.ClickException(str(error)) from None
    if json_:
        print_json({"id": message_id, "result": result})
    else:
        line(f"{message_id}: {result}")


@rejected.command()
@click.argument("message_id")
@as_json
def delete(message_id: str, json_: bool) -> None:
    """Delete a message."""
    try:
        operations.delete_rejected(default_runtime(), message_id, actor=actor())
    except UnknownMessage as error:
        raise click.ClickException(str(error)) from None
    if json_:
        print_json({"deleted": message_id})
    else:
        line(f"{message_id} is deleted")
