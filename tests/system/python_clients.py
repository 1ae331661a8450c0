"""One image by the official Python clients of OpenAI and Google.

Only a fixture imports this module: the clients take three seconds and 100 MB in each process.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from contextlib import suppress

import httpx2
import openai
from google import genai
from google.genai import types


def of_openai(url: str, key: str, model: str, prompt: str) -> int:
    """Return the bytes of an image."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key=key) as made:
        answer = made.images.generate(model=model, prompt=prompt)
    assert answer.data
    return len(base64.b64decode(answer.data[0].b64_json or ""))


def of_google(url: str, key: str, model: str, prompt: str) -> int:
    """Return the bytes of an image."""
    options = types.HttpOptions(base_url=url, retry_options=types.HttpRetryOptions(attempts=3))
    made = genai.Client(api_key=key, http_options=options)
    answer = None
    while answer is None:  # the client repeats no lost connection, so programs do
        with suppress(httpx2.RemoteProtocolError):
            answer = made.models.generate_content(model=model, contents=prompt)
    [part] = answer.parts or []
    assert part.inline_data
    return len(part.inline_data.data or b"")


CLIENTS: Mapping[str, Callable[[str, str, str, str], int]] = {
    "openai": of_openai,
    "google-genai": of_google,
}
