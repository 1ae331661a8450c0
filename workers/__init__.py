"""The Celery applications.

celery -A workers worker           does steps and sweeps
celery -A workers beat             asks for a sweep once a second
celery -A workers.intake worker    reads enqueue messages of other services
"""

from workers.app import app

__all__ = ["app"]
