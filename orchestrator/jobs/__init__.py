"""Jobs as plain values, and the rules for requests."""
