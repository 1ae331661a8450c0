"""A worker whose message loop hangs at SIGUSR2. It is noticed sooner than in the product.

python -m tests.support.hanging_worker
"""

import signal
import threading

from workers import consumer_watch
from workers.__main__ import main

if __name__ == "__main__":
    consumer_watch.CHECK_SECONDS, consumer_watch.HUNG_SECONDS = 0.5, 5.0
    # Python runs a handler in the main thread, which is that of the message loop.
    signal.signal(signal.SIGUSR2, lambda *_: threading.Event().wait())
    main("worker")
