"""The sandbox as a Flask application."""

from flask import Flask, Response, jsonify, request
from flask.json.provider import DefaultJSONProvider
from werkzeug.exceptions import HTTPException

from .control import control_blueprint
from .files import files_blueprint
from .inbox_api import inbox_blueprint
from .page import page_blueprint
from .provider import Refusal
from .state import SandboxState

#: bytes of a request's body; far above any valid submission
MAX_BODY = 20 * 1024 * 1024


class InOrder(DefaultJSONProvider):
    """JSON whose fields keep their order: the documents show them in one that helps the reader."""

    sort_keys = False


def create_app(world: SandboxState) -> Flask:
    """Every provider, the pictures, the control API, the inbox and the page."""
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.json = InOrder(app)
    for provider in world.providers.values():
        app.register_blueprint(provider.blueprint())
    app.register_blueprint(files_blueprint(world))
    app.register_blueprint(control_blueprint(world))
    app.register_blueprint(inbox_blueprint(world))
    app.register_blueprint(page_blueprint(world))

    @app.get("/healthz")
    def healthz() -> Response:
        return jsonify({"status": "ok"})

    @app.errorhandler(HTTPException)
    def refuse(error: HTTPException) -> Response:
        status = error.code or 500
        provider = world.providers.get(request.path.split("/")[1])
        if provider is not None:
            return provider.refuse(Refusal(status))
        answer = jsonify({"error": {"message": error.description}})
        answer.status_code = status
        return answer

    return app
