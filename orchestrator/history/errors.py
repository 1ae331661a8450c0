"""Failures of the history. They load no SQL."""

from __future__ import annotations


class HistoryUnavailable(Exception):
    """The database does not answer, or is not ready. The call can be repeated later."""


class NoHistory(HistoryUnavailable):
    """There is no history yet: no recorder has ever run."""
