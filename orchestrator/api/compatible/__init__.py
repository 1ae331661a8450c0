"""The calls of OpenAI's and Gemini's clients, answered with the images of our jobs.

A client sends one request and waits for the images. Here that is a job, and the answer is held
until the job has its outcome.
"""

from __future__ import annotations

from flask import Flask

from orchestrator.api.compatible import gemini, models, openai
from orchestrator.runtime import Runtime

#: The blueprints of these calls. OpenAI and Google describe them, and not our OpenAPI document.
BLUEPRINTS = ("openai", "gemini", "models")


def mount(app: Flask, runtime: Runtime) -> None:
    """Add the calls to `app`."""
    app.register_blueprint(openai.blueprint(runtime))
    app.register_blueprint(gemini.blueprint(runtime))
    app.register_blueprint(models.blueprint(runtime))
