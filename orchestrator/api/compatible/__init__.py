"""The calls of OpenAI's and Gemini's clients, answered with the images of our jobs.

A client sends one request and waits for the images. Here that is a job, and the answer is held
until the job has its outcome.
"""

from __future__ import annotations

from flask import Flask, Response, request

from orchestrator.api import problems
from orchestrator.api.compatible import gemini, models, openai
from orchestrator.runtime import Runtime

#: The blueprints of these calls. OpenAI and Google describe them, and not our OpenAPI document.
BLUEPRINTS = ("openai", "gemini", "models")
#: The starts of the paths that only these clients call, also for what we do not have.
_PATHS = ("/v1beta/", "/v1/models/", "/v1/images/", "/v1/chat/", "/v1/responses")


def mount(app: Flask, runtime: Runtime) -> None:
    """Add the calls to `app`."""
    app.register_blueprint(openai.blueprint(runtime))
    app.register_blueprint(gemini.blueprint(runtime))
    app.register_blueprint(models.blueprint(runtime))

    @app.after_request
    def in_shape(response: Response) -> Response:
        """Answer a wrong path or method as the clients expect it."""
        if response.mimetype == problems.PROBLEM_JSON and request.path.startswith(_PATHS):
            return models.of_problem(response)
        return response
