"""The built-in providers in tests: example requests, and providers chosen by what they can do.

A test that needs some provider takes it from here. So a new provider needs no edit of these tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.providers import BUILT_IN

#: Each provider's first model.
EXAMPLE_MODELS: Mapping[str, str] = {
    name: next(iter(provider.models)) for name, provider in BUILT_IN.items()
}
#: Each provider's smallest request in the unified form.
EXAMPLE_REQUESTS: Mapping[str, dict[str, Any]] = {
    name: {"provider": name, "model": model, "prompt": "A red cube"}
    for name, model in EXAMPLE_MODELS.items()
}
#: The settings that enable every provider.
ENABLED: Mapping[str, str] = {
    **{f"{name.upper()}_API_KEY": f"sk-{name}" for name in BUILT_IN},
    **{
        f"{name.upper()}_BASE_URL": f"https://{name}.example.com"
        for name, provider in BUILT_IN.items()
        if provider.base_url is None
    },
}

CALLING = [name for name, provider in BUILT_IN.items() if provider.capabilities.callbacks]
#: Those whose callback is only a hint, and those whose callback settles a job.
HINTING = [name for name in CALLING if BUILT_IN[name].capabilities.callback_is_hint]
#: Those that sign their callbacks with public keys. A callback is a hint until these are known.
KEYED = [name for name in CALLING if BUILT_IN[name].capabilities.jwks_url]
SETTLING = [name for name in CALLING if name not in HINTING + KEYED]
POLLED = [name for name in BUILT_IN if name not in CALLING]
#: Those that sign their callbacks with a secret.
SIGNING = [name for name, p in BUILT_IN.items() if p.capabilities.signed_callbacks]
ACCEPTING_FILES = [name for name, p in BUILT_IN.items() if p.capabilities.upload_field]
REFUSING_FILES = [name for name in BUILT_IN if name not in ACCEPTING_FILES]


def provider_with(*, callbacks: bool, keys: bool) -> str:
    """Return the first provider that has, or has not, callbacks and idempotency keys."""
    return next(
        name
        for name, provider in BUILT_IN.items()
        if provider.capabilities.callbacks is callbacks
        and bool(provider.capabilities.idempotency_seconds) is keys
    )


#: An attempt without an answer is sent again with the same key.
POLLED_WITH_KEYS = provider_with(callbacks=False, keys=True)
#: Nobody can tell the fate of an attempt without an answer.
POLLED_WITHOUT_KEYS = provider_with(callbacks=False, keys=False)
