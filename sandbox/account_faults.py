"""Faults of a whole account: a provider refuses every request until it is told otherwise."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

#: The refusal of an account without credits. Queries still work.
_NO_CREDITS = 402


@dataclass(frozen=True)
class AccountFault:
    """How a provider refuses an account."""

    status: int
    #: Unix time when it ends. None means never.
    ends_at: float | None = None


class AccountFaults:
    """The account fault of each provider."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._faults: dict[str, AccountFault] = {}
        self._lock = threading.Lock()

    def set(self, provider: str, status: int, seconds: float | None) -> AccountFault:
        """Refuse a provider's account with this status, for this time or until it is cleared."""
        fault = AccountFault(status, None if seconds is None else self._clock() + seconds)
        with self._lock:
            self._faults[provider] = fault
        return fault

    def clear(self, provider: str | None = None) -> None:
        """Accept one provider's account again, or all of them."""
        with self._lock:
            if provider is None:
                self._faults.clear()
            else:
                self._faults.pop(provider, None)

    def active(self) -> Mapping[str, AccountFault]:
        """Return the fault of each refused account."""
        now = self._clock()
        with self._lock:
            faults = dict(self._faults)
        return {
            name: fault
            for name, fault in faults.items()
            if fault.ends_at is None or now < fault.ends_at
        }

    def refusal(self, provider: str, *, is_submission: bool) -> int | None:
        """Return the status that refuses this request, or None."""
        fault = self.active().get(provider)
        if fault is None or (fault.status == _NO_CREDITS and not is_submission):
            return None
        return fault.status
