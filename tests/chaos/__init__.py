"""The chaos test: the whole product under load, while its processes die and its providers err.

`python -m tests.chaos --help` says how to run it, docs/chaos.md what it proves.
"""
