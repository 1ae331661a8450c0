"""Where images are kept once their job has succeeded: the storage, and what a file must be."""
