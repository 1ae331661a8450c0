"""Tests of the addresses of Redis and the broker."""
