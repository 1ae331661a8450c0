"""The Celery application, its schedule, and one short task per step.

celery -A workers worker    takes nudges and sweeps, and does the steps they name
celery -A workers beat      asks for a sweep once a second
celery -A workers.intake worker    takes other services' enqueue messages
"""

from workers.app import app

__all__ = ["app"]
