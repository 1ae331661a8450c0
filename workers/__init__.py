"""The Celery applications.

orchestrator worker    does steps and sweeps
orchestrator beat      asks for a sweep once a second
orchestrator intake    reads enqueue messages of other services
"""

from workers.app import app

__all__ = ["app"]
