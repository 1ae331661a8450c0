"""Other systems that do the same job, each with its documented best settings."""
