"""A worker whose message loop hangs at SIGUSR2. It is noticed sooner than in the product."""

import signal
import threading

from workers import consumer_watch
from workers.app import app

__all__ = ["app"]

consumer_watch.CHECK_SECONDS, consumer_watch.HUNG_SECONDS = 0.5, 5.0
# Python runs a handler in the main thread, which is that of the message loop.
signal.signal(signal.SIGUSR2, lambda *_: threading.Event().wait())
