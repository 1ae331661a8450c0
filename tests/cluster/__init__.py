"""Tests on a real cluster: three masters, each with a replica."""
