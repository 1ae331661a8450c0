"""Bearer keys. The name of the key identifies the caller."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from flask import g, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized

from orchestrator.security.secret import Secret


def require_key(keys: Mapping[str, Secret]) -> None:
    """Allow the request if it has one of our keys, and set `g.caller` to the key's name.

    Every key is compared in constant time, so the duration reveals nothing.

    Raises:
        Unauthorized: the request has no valid key.
    """
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    token = credentials.strip().encode("utf-8", "replace")
    matches = [
        name for name, key in keys.items() if hmac.compare_digest(key.reveal().encode(), token)
    ]
    if scheme.lower() != "bearer" or not matches:
        raise Unauthorized(
            "The header Authorization: Bearer KEY is required, with a key of ORCHESTRATOR_API_KEYS",
            www_authenticate=WWWAuthenticate("bearer", {"realm": "orchestrator"}),
        )
    g.caller = matches[0]
