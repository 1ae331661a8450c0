"""AI GPT Image: polled tasks whose results are JSON inside a JSON string.

Source: AI GPT Image's page "Nano Banana 2 Text to Image API" (`createTask`, `recordInfo`). Facts
marked "(public)" come from its published documentation. The adapter tolerates them and does not
depend on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from marshmallow import fields

from orchestrator.providers.api import (
    Call,
    Capabilities,
    CreateTaskProvider,
    Family,
    Model,
    StrictSchema,
    always,
    text,
)

ASPECT_RATIOS = (
    "auto", "1:1", "1:4", "1:8", "2:3", "3:2", "3:4", "4:1", "4:3", "4:5", "5:4", "8:1", "9:16",
    "16:9", "21:9",
)  # fmt: skip


class _Input(StrictSchema):
    prompt = text(required=True, maximum=20_000)
    aspect_ratio = text(one_of=ASPECT_RATIOS)
    resolution = text(one_of=("1K", "2K", "4K"))
    output_format = text(one_of=("png", "jpg"))


class _TextToImage(StrictSchema):
    model = text(required=True)
    input = fields.Nested(_Input, required=True, error_messages=always("a JSON object"))


class AIGPTImage(CreateTaskProvider):
    """AI GPT Image's API."""

    name = "aigptimage"
    title = "AI GPT Image"
    base_url = "https://aigptimage.com"
    capabilities = Capabilities(idempotency_seconds=86_400)  # (public); the lifetime is our guess
    models: ClassVar[Mapping[str, Model]] = {
        "nano-banana-2-text-to-image": Model(
            _TextToImage(),
            {
                "prompt": ("input", "prompt"),
                "aspect_ratio": ("input", "aspect_ratio"),
                "resolution": ("input", "resolution"),
                "output_format": ("input", "output_format"),
            },
            spellings={"output_format": {"jpeg": "jpg"}},
            priced_by={("input", "resolution"): "1K"},
        )
    }
    families: ClassVar[Mapping[str, Family]] = {
        "nano-banana-2": Family("nano-banana-2-text-to-image")
    }

    def submit_call(self, body: dict[str, Any], callback_url: str | None, key: str) -> Call:
        """Send `X-Request-ID` as the idempotency key (public). No callbacks are documented."""
        return replace(super().submit_call(body, None, key), headers={"X-Request-ID": key})
