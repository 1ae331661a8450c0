"""The inbox: it plays a caller's own server and receives notifications."""

import json
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .inbox_faults import InboxFault
from .signing import problem, read_secret

#: Largest number of stored notifications. The oldest is dropped first.
MAX_STORED_NOTIFICATIONS = 5000
#: Largest stored part of a body. Bytes.
MAX_STORED_BODY_BYTES = 16 * 1024
#: Largest stored part of a header and of a field of the body. Characters.
MAX_STORED_TEXT_CHARS = 500


@dataclass
class Notification:
    """One request to the inbox. Times are Unix seconds."""

    inbox: str
    #: The three headers as they arrived.
    id: str | None
    timestamp: str | None
    signature: str | None
    #: The first part of the body.
    body: bytes
    #: Length of the whole body. Bytes.
    size: int
    #: `type` and `data.id` of the body. None if the body does not have them.
    type: str | None
    job_id: str | None
    #: True when the signature is valid. None if the inbox has no secret.
    verified: bool | None
    #: Reason why the notification is not verified.
    problem: str | None
    received_at: float
    #: HTTP status of the answer. None before the answer, and without one.
    status: int | None = None


@dataclass(frozen=True)
class NotificationDeliveries:
    """The stored deliveries of one notification, the oldest first. It is never empty."""

    deliveries: list[Notification]

    @property
    def newest(self) -> Notification:
        """The last delivery."""
        return self.deliveries[-1]


@dataclass
class _ActiveFault:
    fault: InboxFault
    #: Notifications that the fault still applies to. None has no limit.
    remaining: int | None


@dataclass
class Inbox:
    """The notifications and the faults of every inbox."""

    secret: str | None
    clock: Callable[[], float]
    max_stored: int = MAX_STORED_NOTIFICATIONS
    _stored: deque[Notification] = field(default_factory=deque)
    #: Number of stored deliveries by inbox and id.
    _deliveries: Counter[tuple[str, str]] = field(default_factory=Counter)
    _faults: dict[str, _ActiveFault] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._key = None if self.secret is None else read_secret(self.secret)

    def record(
        self, name: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[Notification, InboxFault]:
        """Store a notification and return it with the fault that applies to it.

        Args:
            name: The name of the inbox.
            headers: The headers of the request. The names are in lower case.
            body: The raw body.
        """
        message_id, timestamp, signature = (
            headers.get(f"webhook-{part}") for part in ("id", "timestamp", "signature")
        )
        now, reason = self.clock(), None
        if self._key is not None:
            reason = problem(
                self._key,
                message_id=message_id,
                timestamp=timestamp,
                signature=signature,
                body=body,
                now=now,
            )
        kind, job_id = _read(body)
        notification = Notification(
            inbox=name,
            id=_text(message_id),
            timestamp=_text(timestamp),
            signature=_text(signature),
            body=body[:MAX_STORED_BODY_BYTES],
            size=len(body),
            type=kind,
            job_id=job_id,
            verified=None if self._key is None else reason is None,
            problem=reason,
            received_at=now,
        )
        with self._lock:
            self._store(notification)
            return notification, self._next_fault(name)

    def record_answer(self, notification: Notification, status: int) -> None:
        """Store the HTTP status of the answer."""
        with self._lock:
            notification.status = status

    def newest_first(self, name: str | None = None) -> list[tuple[Notification, int]]:
        """Return the notifications, each with the number of its stored deliveries.

        Args:
            name: The name of one inbox, or None for all.
        """
        with self._lock:
            stored = [one for one in self._stored if name in (None, one.inbox)]
            return [
                (one, self._deliveries[one.inbox, one.id] if one.id else 1) for one in stored[::-1]
            ]

    def messages(self, limit: int) -> list[NotificationDeliveries]:
        """Return the newest notifications, each with its deliveries."""
        messages: dict[object, NotificationDeliveries] = {}
        for one, _ in self.newest_first():
            # A notification without an id repeats no other.
            key = (one.inbox, one.id) if one.id else id(one)
            messages.setdefault(key, NotificationDeliveries([])).deliveries.insert(0, one)
        return list(messages.values())[:limit]

    def clear(self) -> None:
        """Forget the notifications. Faults stay."""
        with self._lock:
            self._stored.clear()
            self._deliveries.clear()

    def set_fault(self, name: str, fault: InboxFault) -> None:
        """Replace the fault of an inbox."""
        with self._lock:
            self._faults[name] = _ActiveFault(fault, fault.times)

    def clear_fault(self, name: str | None = None) -> None:
        """Remove the fault of one inbox, or of all inboxes."""
        with self._lock:
            for inbox in [name] if name else list(self._faults):
                self._faults.pop(inbox, None)

    def faults(self) -> dict[str, tuple[InboxFault, int | None]]:
        """Return each inbox's fault and the notifications that it still applies to."""
        with self._lock:
            return {name: (active.fault, active.remaining) for name, active in self._faults.items()}

    def _store(self, notification: Notification) -> None:
        self._stored.append(notification)
        if notification.id:
            self._deliveries[notification.inbox, notification.id] += 1
        if len(self._stored) > self.max_stored:
            dropped = self._stored.popleft()
            if dropped.id:
                self._deliveries[dropped.inbox, dropped.id] -= 1
                if not self._deliveries[dropped.inbox, dropped.id]:
                    del self._deliveries[dropped.inbox, dropped.id]

    def _next_fault(self, name: str) -> InboxFault:
        active = self._faults.get(name)
        if active is None:
            return InboxFault()
        if active.remaining is not None:
            active.remaining -= 1
            if active.remaining == 0:
                del self._faults[name]
        return active.fault


def _read(body: bytes) -> tuple[str | None, str | None]:
    """Return `type` and `data.id` of a body, if they exist."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(message, dict):
        return None, None
    data = message.get("data")
    return _text(message.get("type")), _text(data.get("id") if isinstance(data, dict) else None)


def _text(value: object) -> str | None:
    return value[:MAX_STORED_TEXT_CHARS] if isinstance(value, str) else None
