"""A validated request as a plain value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal
from urllib.parse import urlsplit

from orchestrator.jobs.uploads import Upload

#: The unified fields of a request, in the order of its schema.
UNIFIED_OPTIONS = ("prompt", "images", "aspect_ratio", "resolution", "output_format", "n")


@dataclass(frozen=True, slots=True)
class Target:
    """A provider, and the name of its model."""

    provider: str
    model: str


@dataclass(frozen=True, slots=True)
class Receiver:
    """Who is notified, and how. At most one of the first three fields is set.

    Its repr leaves out the URL, which may hold secrets.
    """

    notify_url: str | None = None
    notify_task: str | None = None
    notify_stream: str | None = None
    #: The Celery queue of `notify_task`.
    notify_queue: str | None = None

    def __repr__(self) -> str:
        return f"Receiver({self.name})"

    @property
    def name(self) -> str | None:
        """The task, the stream, or the URL's host; None: nobody is notified.

        The rest of the URL may hold secrets.
        """
        if self.notify_url:
            return urlsplit(self.notify_url).netloc.rpartition("@")[2].lower()
        return self.notify_task or self.notify_stream


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A validated request.

    `options` holds the unified fields (prompt, images, aspect_ratio, ...). It is empty when
    `native` holds the provider's own body without its callback fields. `provider_options` is
    merged last into the body that is made from `options`. Its repr leaves out everything that may
    hold a prompt or a secret.
    """

    provider: str
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    native: Mapping[str, Any] | None = None
    provider_options: Mapping[str, Any] = field(default_factory=dict)
    upload: Upload | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    deadline_seconds: float | None = None
    on_unconfirmed: Literal["fail", "resubmit"] = "fail"
    #: The providers that are tried after `provider`, in this order. No two are the same.
    fallback: tuple[Target, ...] = ()
    #: The way to notify the caller. At most one of these is set.
    notify_url: str | None = None
    notify_task: str | None = None
    notify_stream: str | None = None
    #: The Celery queue of `notify_task`.
    notify_queue: str | None = None

    def __repr__(self) -> str:
        return f"JobRequest({self.provider}, {self.model})"

    @property
    def receiver(self) -> Receiver:
        """The receiver of the notification."""
        return Receiver(self.notify_url, self.notify_task, self.notify_stream, self.notify_queue)

    @property
    def notifies(self) -> str | None:
        """The name of the receiver of the notification, or None."""
        return self.receiver.name

    def stored(self) -> dict[str, Any]:
        """Return the request as the ledger stores it, without empty fields.

        The data is shared with the request, because a copy takes as long as the whole check.
        """
        stored: dict[str, Any] = {
            name: value
            for name in _FIELDS
            if (value := getattr(self, name)) is not None and value not in ({}, ())
        }
        if self.upload:
            stored["upload"] = asdict(self.upload)
        if self.fallback:
            stored["fallback"] = [asdict(target) for target in self.fallback]
        return stored

    def at(self, provider: str) -> JobRequest:
        """Return the request as it is sent to this provider or fallback.

        `provider_options` are fields of the first provider. A fallback does not get them.
        """
        models = {target.provider: target.model for target in self.fallback}
        if provider not in models:
            return self
        return replace(self, provider=provider, model=models[provider], provider_options={})


#: The names of the fields of a request, in their order.
_FIELDS = tuple(each.name for each in fields(JobRequest))
