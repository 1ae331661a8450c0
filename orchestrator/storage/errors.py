"""The errors of a storage."""


class StorageError(Exception):
    """The storage is away, full, or denies access. The message has no credentials."""


class NotStored(StorageError):
    """The object does not exist."""


class NoFolder(NotStored):
    """The object does not exist, because the folder of the storage does not."""
