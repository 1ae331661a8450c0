"""One HTTP client stack: deadlines, and the guard for URLs that somebody else chose."""
