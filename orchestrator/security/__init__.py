"""Secrets, callback tokens and signatures. Every comparison takes constant time."""
