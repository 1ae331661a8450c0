"""One running sandbox: its rooms, put together."""

import threading
import time
from collections.abc import Callable

from .callbacks import Courier
from .inbox import Inbox
from .provider import Provider
from .registry import PROVIDERS
from .rules import Rules
from .settings import Settings
from .submissions import Reception
from .tasks import TaskStore
from .timetable import Timetable


class SandboxState:
    """Everything one sandbox holds. `clock` gives Unix seconds, and tests can move it."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.clock = clock
        #: set when the sandbox stops, so that no answer is kept waiting
        self.stopping = threading.Event()
        self.store = TaskStore()
        self.rules = Rules(settings.seed)
        for terms in settings.rules:
            self.rules.add(terms)
        self.inbox = Inbox(settings.inbox_secret, clock)
        self.timetable = Timetable()
        self.courier = Courier(self.store, self.timetable, clock, settings.callback_retry_seconds)
        self.reception = Reception(
            settings,
            store=self.store,
            rules=self.rules,
            timetable=self.timetable,
            courier=self.courier,
            clock=clock,
            stopping=self.stopping,
        )
        self.providers: dict[str, Provider] = {
            kind.name: kind(settings, self.store, clock, self.reception.submit)
            for kind in PROVIDERS
        }

    def forget(self) -> None:
        """Forget every task, charge, key and count of a wish. Rules stay, and what they counted."""
        self.store.clear()
        self.rules.forget_submissions()
        for provider in self.providers.values():
            provider.keys.clear()

    def stop(self) -> None:
        """End every thread, however much is left to do."""
        self.stopping.set()
        self.timetable.stop()
        self.courier.stop()
