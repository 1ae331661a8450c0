"""Notifications to callers: by signed webhook, Celery task or Redis stream."""
