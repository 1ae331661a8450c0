"""The image APIs, emulated over real HTTP: for demos, tests and local work.

A program of its own: it shares no code with the orchestrator, so that a misreading of a
provider's document in one of them is not repeated in the other. Start it with
``python -m sandbox``, or in a test with `sandbox.server.Sandbox`.
"""
