"""Settings of one installation, read from environment variables."""
