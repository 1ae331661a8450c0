"""Benchmarks: the product compared with minimal hand-written code in the same run."""
