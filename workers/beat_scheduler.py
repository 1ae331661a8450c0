"""beat's scheduler. It keeps no file: times of an earlier process mean nothing to this one."""

from __future__ import annotations

from typing import Any, ClassVar

from celery.beat import Scheduler

from workers.consumer_watch import ConsumerWatch


class WatchedScheduler(Scheduler):  # type: ignore[misc]  # Celery has no types
    """Celery's scheduler. It tells its watch that it runs."""

    #: Restarts beat if it hangs, once it runs.
    watch: ClassVar[ConsumerWatch | None] = None

    def tick(self, *args: Any, **options: Any) -> Any:
        """Send what is due. Return the seconds until the next call."""
        if self.watch:
            self.watch.tick()
        return super().tick(*args, **options)
