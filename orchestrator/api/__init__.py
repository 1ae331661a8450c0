"""The HTTP API. Every error is a problem document."""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask_smorest import Api

from orchestrator.api import (
    actions,
    auth,
    batches,
    bulk,
    compatible,
    cross_origin,
    documentation,
    health,
    image_links,
    images,
    incoming,
    jobs,
    metrics,
    plain_enqueue,
    problems,
    providers,
    quotes,
    reference_links,
    rejected,
    reports,
    request_ids,
    stats,
)
from orchestrator.operations.keys import require_keys
from orchestrator.runtime import Runtime

#: The largest accepted request, without files. Bytes.
MAX_BODY_BYTES = 1024 * 1024
DESCRIPTION = (
    "Image jobs at third-party providers: enqueue once, get exactly one outcome, pay once, keep the"
    " image. Errors are problem documents (RFC 9457)."
)


class _Specification(Api):  # type: ignore[misc]  # flask-smorest has no types
    """The OpenAPI document. Every operation names its own errors."""

    DEFAULT_ERROR_RESPONSE_NAME = None


def mount(app: Flask, runtime: Runtime) -> None:
    """Add the API to `app`.

    Raises:
        ConfigError: there is no API key.
    """
    require_keys(runtime)
    app.config.update(_config(runtime))
    plain_enqueue.install(app, runtime)
    request_ids.install(app)
    spec = _Specification(app)
    cross_origin.install(app, runtime.settings.cors_origins)
    auth.install(app, runtime)
    spec.register_blueprint(jobs.blueprint(runtime))
    spec.register_blueprint(quotes.blueprint(runtime))
    spec.register_blueprint(batches.blueprint(runtime))
    spec.register_blueprint(actions.blueprint(runtime))
    spec.register_blueprint(bulk.blueprint(runtime))
    of_images = images.blueprint(runtime)
    image_links.add_to(of_images, runtime)
    spec.register_blueprint(of_images)
    spec.register_blueprint(providers.blueprint(runtime))
    spec.register_blueprint(rejected.blueprint(runtime))
    spec.register_blueprint(stats.blueprint(runtime))
    spec.register_blueprint(reports.blueprint(runtime))
    app.register_blueprint(health.blueprint(runtime))
    app.register_blueprint(metrics.blueprint(runtime))
    app.register_blueprint(documentation.blueprint())
    app.register_blueprint(image_links.blueprint(runtime))
    app.register_blueprint(reference_links.blueprint(runtime))
    compatible.mount(app, runtime)
    problems.install(app)
    _describe_forms(spec)
    incoming.refuse_unknown_parameters(app, spec.spec.to_dict()["paths"])


def _config(runtime: Runtime) -> dict[str, Any]:
    """Return the settings of Flask and of the OpenAPI document."""
    return {
        "MAX_CONTENT_LENGTH": MAX_BODY_BYTES,
        "API_TITLE": "Image job orchestrator",
        "API_VERSION": "v1",
        "OPENAPI_VERSION": "3.1.0",
        "OPENAPI_URL_PREFIX": "/",
        "OPENAPI_JSON_PATH": "openapi.json",
        "API_SPEC_OPTIONS": {
            "info": {"description": DESCRIPTION, "license": {"name": "MIT", "identifier": "MIT"}},
            "servers": _servers(runtime),
            "components": {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
        },
    }


def _servers(runtime: Runtime) -> list[dict[str, str]]:
    """Return our addresses for OpenAPI: the public one, and that of the document."""
    public_url = runtime.settings.public_url
    return [*([{"url": public_url}] if public_url else []), {"url": "./"}]


def _describe_forms(spec: Api) -> None:
    """Describe the two forms of a request: in the native form, `request` may hold the model."""
    request = spec.spec.components.schemas["JobRequest"]
    request["required"] = ["provider"]
    request["anyOf"] = [{"required": ["model", "prompt"]}, {"required": ["request"]}]
