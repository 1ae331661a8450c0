"""CORS: which web pages of other origins may call us from a browser."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Flask
from flask_cors import CORS

from orchestrator.api.request_ids import HEADER as REQUEST_ID

#: The headers that a page may send, and those that it may read.
SENT = ("Authorization", "Content-Type", "Idempotency-Key", REQUEST_ID)
READ = ("Idempotent-Replay", "Location", "Retry-After", REQUEST_ID)
#: A browser may keep the answer to its question for this long. Seconds.
MAX_AGE_SECONDS = 600


def install(app: Flask, origins: Sequence[str]) -> None:
    """Let pages of these origins call `/v1`, and read the images of signed links.

    Keys are sent in a header, never in a cookie.

    Args:
        app: the application.
        origins: such as `https://app.example.com`; `*` allows every page.
    """
    if origins:
        CORS(
            app,
            resources={r"/(?:v1|images)/.*": {"origins": list(origins)}},
            methods=["GET", "POST", "DELETE"],
            allow_headers=list(SENT),
            expose_headers=list(READ),
            max_age=MAX_AGE_SECONDS,
        )
