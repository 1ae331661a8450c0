"""The parts of one running sandbox."""

import threading
import time
from collections.abc import Callable

from .account_faults import AccountFaults
from .callbacks import CallbackSender
from .inbox import Inbox
from .provider import EmulatedProvider
from .registry import PROVIDERS
from .rules import Rules
from .settings import SandboxSettings
from .submissions import SubmissionHandler
from .tasks import TaskStore
from .timetable import Timetable


class SandboxState:
    """Everything that one sandbox holds in memory.

    Args:
        settings: The settings of the sandbox.
        clock: Returns the Unix time in seconds. Tests can move it.
    """

    def __init__(self, settings: SandboxSettings, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.clock = clock
        #: Set when the sandbox stops. It ends every delayed answer.
        self.stopping = threading.Event()
        self.store = TaskStore()
        self.rules = Rules(settings.seed)
        for spec in settings.rules:
            self.rules.add(spec)
        self.inbox = Inbox(settings.inbox_secret, clock)
        self.account_faults = AccountFaults(clock)
        self.timetable = Timetable()
        self.callback_sender = CallbackSender(
            self.store, self.timetable, clock, settings.callback_retry_seconds
        )
        self.submissions = SubmissionHandler(
            settings,
            store=self.store,
            rules=self.rules,
            timetable=self.timetable,
            callback_sender=self.callback_sender,
            clock=clock,
            stopping=self.stopping,
        )
        self.providers: dict[str, EmulatedProvider] = {
            provider.name: provider(
                settings, self.store, clock, self.submissions.submit, self.account_faults
            )
            for provider in PROVIDERS
        }

    def forget(self) -> None:
        """Forget tasks, charges, idempotency keys and counted submissions. Rules stay."""
        self.store.clear()
        self.rules.forget_submissions()
        for provider in self.providers.values():
            provider.keys.clear()

    def stop(self) -> None:
        """End every thread and drop the remaining work."""
        self.stopping.set()
        self.timetable.stop()
        self.callback_sender.stop()
