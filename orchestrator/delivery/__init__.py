"""Telling callers of their jobs' outcomes: by signed webhook, Celery task, or Redis stream."""
