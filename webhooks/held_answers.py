"""Answers that wait for a change, as coroutines. One connection to Redis serves all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from orchestrator.api.holds import Hold
from orchestrator.ledger import LedgerMisconfigured, LedgerUnavailable
from orchestrator.ledger.subscription import Subscription
from webhooks.exchange import Exchange
from webhooks.threads import Threads

#: A held answer is checked this often also without a message, because one may be lost. Seconds.
CHECK_SECONDS = 10.0


class HeldAnswers:
    """Holds answers.

    Args:
        loop: the event loop.
        threads: make the calls to Redis.
        most: the answers that may be held at once.
        subscribe: makes a subscription that reports the channels that changed.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        threads: Threads,
        most: int,
        subscribe: Callable[[Callable[[str], None]], Subscription],
    ) -> None:
        self._loop = loop
        self._threads = threads
        self._most = most
        self._subscription = subscribe(self._report)
        self._changes: dict[str, set[asyncio.Event]] = {}
        self._number = 0
        #: Whether all answers are due now, because the process ends.
        self.stopping = False

    def has_room(self) -> bool:
        """Return whether another answer may be held."""
        return self._number < self._most and not self.stopping

    def stop(self) -> None:
        """Let all answers be given now, and hold no more."""
        if self.stopping:
            return
        self.stopping = True
        for changes in self._changes.values():
            for change in changes:
                change.set()

    def close(self) -> None:
        """End the connection to Redis."""
        self._subscription.close()

    async def wait(self, hold: Hold, ends: float, exchange: Exchange) -> bool:
        """Wait until there is something new to answer, or the time has passed.

        Args:
            hold: what is waited for.
            ends: the end of the wait, in the time of the loop.
            exchange: the request. Its stream gets a sign of life from time to time.

        Returns:
            False if the client has gone away.
        """
        change = asyncio.Event()
        self._changes.setdefault(hold.channel, set()).add(change)
        self._subscription.add(hold.channel)
        self._number += 1
        gone = self._loop.create_task(_set_when_gone(exchange, change))
        interval = exchange.stream.interval_seconds if exchange.stream else CHECK_SECONDS
        next_check = self._loop.time() + CHECK_SECONDS
        try:
            while (left := ends - self._loop.time()) > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(change.wait(), min(left, interval))
                if gone.done():
                    return False
                await exchange.keep_alive()
                if not change.is_set() and self._loop.time() < next_check:
                    continue  # a client may choose a short interval, and a check asks Redis
                next_check = self._loop.time() + CHECK_SECONDS
                change.clear()
                if self.stopping or await self._is_over(hold):
                    break
            return True
        finally:
            gone.cancel()
            self._number -= 1
            self._subscription.remove(hold.channel)
            self._changes[hold.channel].discard(change)
            if not self._changes[hold.channel]:
                del self._changes[hold.channel]

    async def _is_over(self, hold: Hold) -> bool:
        try:
            return await self._threads.run(hold.over)
        except (LedgerUnavailable, LedgerMisconfigured):
            return True  # the application has the answer for this

    def _report(self, channel: str) -> None:
        """Pass on a change. It is called in the thread of the subscription."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._set_changed, channel)

    def _set_changed(self, channel: str) -> None:
        for change in self._changes.get(channel, ()):
            change.set()


async def _set_when_gone(exchange: Exchange, change: asyncio.Event) -> None:
    await exchange.gone()
    change.set()
