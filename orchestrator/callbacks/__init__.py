"""Provider callbacks: their address, what they do to a job, and the spool for a Redis outage."""
