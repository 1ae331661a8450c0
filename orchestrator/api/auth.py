"""Bearer keys. Who calls is known by the name of the key."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from flask import g, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized

from orchestrator.security.secret import Secret


def require_key(keys: Mapping[str, Secret]) -> None:
    """Let the request through if it carries one of our keys; `g.caller` is the key's name.

    Every key is compared, each in constant time, so that timing tells nothing.

    Raises:
        Unauthorized: it does not.
    """
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    token = given.strip().encode("utf-8", "replace")
    matches = [
        name for name, key in keys.items() if hmac.compare_digest(key.reveal().encode(), token)
    ]
    if scheme.lower() != "bearer" or not matches:
        raise Unauthorized(
            "Authorization: Bearer KEY is needed, with one of the keys in ORCHESTRATOR_API_KEYS",
            www_authenticate=WWWAuthenticate("bearer", {"realm": "orchestrator"}),
        )
    g.caller = matches[0]
