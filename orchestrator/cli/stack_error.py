"""What went wrong with a part of the stack."""

from __future__ import annotations


class StackError(Exception):
    """A part of the stack failed. The message names it and shows its last output."""
