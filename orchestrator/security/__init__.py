"""Secrets, callback tokens and signatures. Every compare takes constant time."""
