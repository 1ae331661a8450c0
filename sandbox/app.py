"""The sandbox as a Flask application."""

from flask import Flask, Response, jsonify, request
from flask.json.provider import DefaultJSONProvider
from werkzeug.exceptions import HTTPException

from .account_api import accounts_blueprint
from .control import control_blueprint
from .files import files_blueprint
from .inbox_api import inbox_blueprint
from .limits_api import limits_blueprint
from .page import page_blueprint
from .provider import Refusal
from .state import SandboxState

#: Largest body of a request. It is far larger than a valid submission. Bytes.
MAX_BODY_BYTES = 20 * 1024 * 1024


class OrderedJSONProvider(DefaultJSONProvider):
    """JSON that keeps the order of the fields, as in the providers' documents."""

    sort_keys = False


def create_app(state: SandboxState) -> Flask:
    """Return the application: providers, image links, control API, inbox and page."""
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.json = OrderedJSONProvider(app)
    for provider in state.providers.values():
        app.register_blueprint(provider.blueprint())
    app.register_blueprint(files_blueprint(state))
    app.register_blueprint(control_blueprint(state))
    app.register_blueprint(accounts_blueprint(state))
    app.register_blueprint(limits_blueprint(state))
    app.register_blueprint(inbox_blueprint(state))
    app.register_blueprint(page_blueprint(state))

    @app.get("/healthz")
    def healthz() -> Response:
        return jsonify({"status": "ok"})

    @app.errorhandler(HTTPException)
    def refuse(error: HTTPException) -> Response:
        status = error.code or 500
        provider = state.providers.get(request.path.split("/")[1])
        if provider is not None:
            return provider.refuse(Refusal(status))
        answer = jsonify({"error": {"message": error.description}})
        answer.status_code = status
        return answer

    return app
