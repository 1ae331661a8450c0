"""What a storage raises."""


class StorageError(Exception):
    """The storage is away, full or refuses. One line; never credentials, never a signed link."""


class NotStored(StorageError):
    """There is no such object."""
