"""The calls of OpenAI's and Gemini's clients, answered with the images of our jobs.

A client sends one request and waits for the images. Here that is a job, and the answer is held
until the job has its outcome.
"""

from __future__ import annotations

from typing import Any

from flask import Flask, Response, request

from orchestrator.api import problems
from orchestrator.api.compatible import gemini, gemini_answer, models, openai, openai_answer
from orchestrator.runtime import Runtime

#: The blueprints of these calls. OpenAI and Google describe them, and not our OpenAPI document.
BLUEPRINTS = ("openai", "gemini", "models")
#: The starts of the paths that only these clients call, also for what we do not have.
_PATHS = ("/v1beta/", "/v1/models", "/v1/images/", "/v1/chat/", "/v1/responses")


def mount(app: Flask, runtime: Runtime) -> None:
    """Add the calls to `app`."""
    app.register_blueprint(openai.blueprint(runtime))
    app.register_blueprint(gemini.blueprint(runtime))
    app.register_blueprint(models.blueprint(runtime))

    @app.after_request
    def in_shape(response: Response) -> Response:
        """Answer a wrong path or method as the clients expect it."""
        return in_clients_shape(response, request.path, request.headers)


def in_clients_shape(response: Response, path: str, headers: Any) -> Response:
    """Return a problem document as the clients of its path expect it; any other answer as it is.

    Args:
        response: an answer.
        path: of the request.
        headers: the names of the request's headers, in lower case or of any case.
    """
    if response.mimetype != problems.PROBLEM_JSON or not path.startswith(_PATHS):
        return response
    if models.is_google(path, headers):
        return gemini_answer.of_problem(response)
    return openai_answer.of_problem(response)
