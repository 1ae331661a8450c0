"""The work on jobs, one module a step."""
