"""The servers that every process connects to: Redis and the broker.

One URL is read by two libraries: redis-py connects the ledger, kombu connects Celery. They read the
same URL differently. So this package reads it once, and each library gets its own options.
"""
