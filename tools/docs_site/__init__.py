"""Makes the documentation site from docs/, the README and the code. MkDocs calls `hook`."""
