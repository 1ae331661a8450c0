"""Hypothesis strategies that several tests use."""

from __future__ import annotations

from hypothesis import strategies as st

#: Every character that UTF-8 can encode. `st.text()` has the same ones, but it encodes each of the
#: 1.1 million characters first. This takes 3 s and 200 MB in each process.
CHARACTERS = st.characters(exclude_categories=["Cs"])
TEXT = st.text(CHARACTERS)
