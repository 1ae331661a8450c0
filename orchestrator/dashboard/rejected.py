"""Rejected messages: what was verified and could not be read. Read, replay and delete them."""

from __future__ import annotations

from flask import Blueprint, Response, request

from orchestrator.dashboard import views
from orchestrator.operations.rejected import (
    NotReplayable,
    UnknownMessage,
    delete_rejected,
    replay_rejected,
)
from orchestrator.runtime import Runtime

#: The messages of a page.
PAGE_MESSAGES = 20


def add_to(pages: Blueprint, runtime: Runtime) -> None:
    """Add the routes."""

    @pages.get("/rejected")
    def rejected() -> Response:
        """A page of messages, newest first."""
        views.require_admin()
        if answer := views.unchanged(runtime, jobs=False):
            return answer
        cursor = request.args.get("after") or None
        messages = runtime.ledger.rejected.page(PAGE_MESSAGES + 1, before=cursor)
        shown = messages[:PAGE_MESSAGES]
        older = shown[-1].id if len(messages) > PAGE_MESSAGES else None
        return views.render("rejected", messages=shown, older=older, cursor=cursor)

    @pages.post("/rejected/<message_id>/replay")
    def replay_rejected_form(message_id: str) -> Response:
        """Read a message again."""
        views.require_admin()
        try:
            result = replay_rejected(runtime, message_id, actor=views.caller().name)
        except UnknownMessage:
            return views.done(runtime, "The message is not there any more.", "rejected")
        except NotReplayable as error:
            notice = f"The message stays, because it is rejected again: {error}."
            return views.done(runtime, notice, "rejected")
        words = result.replace("_", " ")
        return views.done(runtime, f"The message was read. Its result: {words}.", "rejected")

    @pages.post("/rejected/<message_id>/delete")
    def delete_rejected_form(message_id: str) -> Response:
        """Delete a message."""
        views.require_admin()
        try:
            delete_rejected(runtime, message_id, actor=views.caller().name)
        except UnknownMessage:
            return views.done(runtime, "The message is not there any more.", "rejected")
        return views.done(runtime, "The message is deleted.", "rejected")
