"""Jobs and requests as values, with their rules."""
