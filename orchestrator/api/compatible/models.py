"""`/v1/models` and `/v1beta/models`: the names that callers may use as `model`.

Google's clients list models under `/v1`, too. They are known by the header of their key.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request

from orchestrator.api.answers import as_json
from orchestrator.api.auth import GOOGLE_KEY
from orchestrator.api.compatible import gemini_answer, openai_answer
from orchestrator.operations.model_names import listed_models, resolve_model
from orchestrator.runtime import Runtime

#: What Google's clients can call with a model.
METHODS = ("generateContent", "streamGenerateContent")


def blueprint(runtime: Runtime) -> Blueprint:
    """Return the routes. Answers and errors have the shape of the client."""
    listed = Blueprint("models", __name__)
    listed.register_error_handler(Exception, _error_answer)

    @listed.get("/v1/models")
    @listed.get("/v1beta/models")
    def models() -> Response:
        known = listed_models(runtime)
        if _is_google():
            return as_json({"models": [_googles(name) for name, _ in known]}, 200)
        return as_json({"object": "list", "data": [_openais(*each) for each in known]}, 200)

    @listed.get("/v1/models/<path:name>")
    @listed.get("/v1beta/models/<path:name>")
    def model(name: str) -> Response:
        targets = resolve_model(runtime, name)
        shown = _googles(name) if _is_google() else _openais(name, targets[0].provider)
        return as_json(shown, 200)

    return listed


def is_google(path: str, headers: Any) -> bool:
    """Return whether a request is one of Google's clients, by its path and the names it sends."""
    return path.startswith("/v1beta/") or GOOGLE_KEY in headers


def _is_google() -> bool:
    return is_google(request.path, request.headers)


def _error_answer(error: Exception) -> Response:
    if _is_google():
        return gemini_answer.error_answer(error)
    return openai_answer.error_answer(error)


def _openais(name: str, owner: str) -> dict[str, str | int]:
    """Return a model. `created` is 0, because providers do not say when a model was made."""
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}


def _googles(name: str) -> dict[str, str | list[str]]:
    path = f"models/{name}"
    return {"name": path, "displayName": name, "supportedGenerationMethods": [*METHODS]}
