"""`/v1/rejected`: messages that were verified but could not be read. For administrators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flask import Response
from flask_smorest import Blueprint
from marshmallow import fields, validate
from werkzeug.exceptions import Conflict, NotFound

from orchestrator.api import incoming
from orchestrator.api.answers import as_json
from orchestrator.api.auth import caller, require
from orchestrator.api.openapi import operation, page_parameters
from orchestrator.jobs.answer_schemas import AnswerSchema, timestamp
from orchestrator.ledger.rejected_messages import MESSAGE_ID
from orchestrator.operations import rejected as operations
from orchestrator.operations.rejected import NotReplayable, UnknownMessage, rejected_view
from orchestrator.runtime import Runtime
from orchestrator.security.api_keys import Scope


class RejectedMessageSchema(AnswerSchema):
    """A message that was verified but could not be read."""

    id = fields.String()
    kind = fields.String(validate=validate.OneOf(["callback", "enqueue"]))
    at = timestamp()
    reason = fields.String()
    provider = fields.String(allow_none=True, metadata={"description": "Of a callback."})
    reference = fields.String(
        allow_none=True, metadata={"description": "The job and the attempt of a callback."}
    )
    body = fields.String(metadata={"description": "Its start. It may hold a prompt."})
    complete = fields.Boolean(
        metadata={"description": "Whether the whole body was kept. Only then it can be replayed."}
    )


class RejectedMessagesSchema(AnswerSchema):
    """A page of messages, newest first. `next_cursor` is null on the last page."""

    messages = fields.List(fields.Nested(RejectedMessageSchema))
    next_cursor = fields.String(allow_none=True)


class ReplayedSchema(AnswerSchema):
    """What a replay did: the result of a callback, or the id of a new job."""

    id = fields.String()
    result = fields.String()


class DeletedSchema(AnswerSchema):
    """A message that was deleted."""

    id = fields.String()
    deleted = fields.Boolean()


def blueprint(runtime: Runtime) -> Blueprint:
    """Return the routes. Each needs the scope admin."""
    rejected = Blueprint(
        "rejected", __name__, url_prefix="/v1/rejected", description="Rejected messages"
    )

    @rejected.before_request
    def check() -> None:
        require(Scope.ADMIN)

    @rejected.get("")
    @rejected.doc(
        **operation(
            "list_rejected",
            {200: RejectedMessagesSchema},
            parameters=page_parameters("messages", MESSAGE_ID.pattern),
        )
    )
    def browse() -> Response:
        """List verified messages that could not be read, newest first. Needs the scope admin."""
        return _browse(runtime)

    @rejected.get("/<message_id>")
    @rejected.doc(**operation("get_rejected", {200: RejectedMessageSchema}, 404))
    def show(message_id: str) -> Response:
        """Get a rejected message with the start of its body. Needs the scope admin."""
        with _not_found():
            return as_json(rejected_view(operations.find_rejected(runtime, message_id)), 200)

    @rejected.post("/<message_id>/replay")
    @rejected.doc(**operation("replay_rejected", {200: ReplayedSchema}, 404, 409))
    def replay(message_id: str) -> Response:
        """Read a message again, and delete it. Answers 409 if it is rejected again."""
        with _not_found():
            return _replay(runtime, message_id)

    @rejected.delete("/<message_id>")
    @rejected.doc(**operation("delete_rejected", {200: DeletedSchema}, 404))
    def delete(message_id: str) -> Response:
        """Delete a rejected message. Needs the scope admin."""
        with _not_found():
            operations.delete_rejected(runtime, message_id, actor=caller().name)
            return as_json({"id": message_id, "deleted": True}, 200)

    return rejected


@contextmanager
def _not_found() -> Iterator[None]:
    """Answer 404 for an unknown message."""
    try:
        yield
    except UnknownMessage as error:
        raise NotFound(str(error)) from None


def _replay(runtime: Runtime, message_id: str) -> Response:
    try:
        result = operations.replay_rejected(runtime, message_id, actor=caller().name)
    except NotReplayable as error:
        raise Conflict(str(error)) from None
    return as_json({"id": message_id, "result": result}, 200)


def _browse(runtime: Runtime) -> Response:
    limit, cursor = incoming.page_limit(), incoming.cursor(MESSAGE_ID)
    messages = runtime.ledger.rejected.page(limit + 1, before=cursor)
    page, more = messages[:limit], len(messages) > limit
    view = [rejected_view(message) for message in page]
    return as_json({"messages": view, "next_cursor": page[-1].id if more else None}, 200)
