"""The image APIs, emulated over real HTTP, for demos, tests and development.

The sandbox is a separate program and shares no code with the orchestrator. So a wrong reading of a
provider's document in one of them is not repeated in the other. `python -m sandbox` starts it.
Tests start it with `sandbox.server.Sandbox`.
"""
