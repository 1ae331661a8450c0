"""Questions about jobs, and actions on them, for the CLI and the API."""
