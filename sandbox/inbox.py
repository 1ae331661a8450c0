"""The inbox: a caller's own server, as far as notifications see it."""

import json
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .inbox_faults import InboxFault
from .signing import problem, read_secret

#: how many notifications are kept, the newest
MAX_KEPT = 5000
#: how many bytes of a body are kept
MAX_BODY_KEPT = 16 * 1024
#: and how many characters of a header and of a field of the body
MAX_TEXT_KEPT = 500


@dataclass
class Notification:
    """One request to the inbox. Times are Unix seconds."""

    inbox: str
    #: the three headers, as they came
    id: str | None
    timestamp: str | None
    signature: str | None
    #: the beginning of the body, and how many bytes all of it had
    body: bytes
    size: int
    #: `type` and `data.id`, where the body is such JSON
    type: str | None
    job_id: str | None
    #: whether the secret signed it; None where the inbox has no secret
    verified: bool | None
    #: why it is not verified
    problem: str | None
    received_at: float
    #: what it was answered with; None: not yet, or not at all
    status: int | None = None


@dataclass(frozen=True)
class Message:
    """Every delivery of one notification that is kept, the oldest first; never empty."""

    deliveries: list[Notification]

    @property
    def newest(self) -> Notification:
        """The last of them."""
        return self.deliveries[-1]


@dataclass
class _Fault:
    wanted: InboxFault
    left: int | None


@dataclass
class Inbox:
    """Every notification that came, by the name of the inbox, and what each inbox does wrong."""

    secret: str | None
    clock: Callable[[], float]
    max_kept: int = MAX_KEPT
    _kept: deque[Notification] = field(default_factory=deque)
    _times: Counter[tuple[str, str]] = field(default_factory=Counter)
    _faults: dict[str, _Fault] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._key = None if self.secret is None else read_secret(self.secret)

    def take(
        self, name: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[Notification, InboxFault]:
        """Record a notification, and say how to answer it; the headers by their names in small."""
        message_id, timestamp, signature = (
            headers.get(f"webhook-{part}") for part in ("id", "timestamp", "signature")
        )
        now, trouble = self.clock(), None
        if self._key is not None:
            trouble = problem(
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
            body=body[:MAX_BODY_KEPT],
            size=len(body),
            type=kind,
            job_id=job_id,
            verified=None if self._key is None else trouble is None,
            problem=trouble,
            received_at=now,
        )
        with self._lock:
            self._keep(notification)
            return notification, self._draw(name)

    def answered(self, notification: Notification, status: int) -> None:
        """Record what it was answered with."""
        with self._lock:
            notification.status = status

    def newest_first(self, name: str | None = None) -> list[tuple[Notification, int]]:
        """What came, in one inbox or all, and how many deliveries of each were kept."""
        with self._lock:
            kept = [one for one in self._kept if name in (None, one.inbox)]
            return [(one, self._times[one.inbox, one.id] if one.id else 1) for one in kept[::-1]]

    def messages(self, most: int) -> list[Message]:
        """The newest notifications, each with its deliveries."""
        found: dict[object, Message] = {}
        for one, _ in self.newest_first():
            # What has no id is no repetition of anything.
            key = (one.inbox, one.id) if one.id else id(one)
            found.setdefault(key, Message([])).deliveries.insert(0, one)
        return list(found.values())[:most]

    def clear(self) -> None:
        """Forget what came; what the inboxes do wrong stays."""
        with self._lock:
            self._kept.clear()
            self._times.clear()

    def set_fault(self, name: str, wanted: InboxFault) -> None:
        """Have an inbox answer in this way from now on."""
        with self._lock:
            self._faults[name] = _Fault(wanted, wanted.times)

    def mend(self, name: str | None = None) -> None:
        """Have an inbox, or all of them, answer as they should."""
        with self._lock:
            for broken in [name] if name else list(self._faults):
                self._faults.pop(broken, None)

    def faults(self) -> dict[str, tuple[InboxFault, int | None]]:
        """What each inbox does wrong, and how many more times; None: always."""
        with self._lock:
            return {name: (fault.wanted, fault.left) for name, fault in self._faults.items()}

    def _keep(self, notification: Notification) -> None:
        self._kept.append(notification)
        if notification.id:
            self._times[notification.inbox, notification.id] += 1
        if len(self._kept) > self.max_kept:
            dropped = self._kept.popleft()
            if dropped.id:
                self._times[dropped.inbox, dropped.id] -= 1
                if not self._times[dropped.inbox, dropped.id]:
                    del self._times[dropped.inbox, dropped.id]

    def _draw(self, name: str) -> InboxFault:
        fault = self._faults.get(name)
        if fault is None:
            return InboxFault()
        if fault.left is not None:
            fault.left -= 1
            if fault.left == 0:
                del self._faults[name]
        return fault.wanted


def _read(body: bytes) -> tuple[str | None, str | None]:
    """`type` and `data.id` of a body, as far as there are any."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(message, dict):
        return None, None
    data = message.get("data")
    return _text(message.get("type")), _text(data.get("id") if isinstance(data, dict) else None)


def _text(value: object) -> str | None:
    return value[:MAX_TEXT_KEPT] if isinstance(value, str) else None
