"""Tells the folder of an archive from another one in its place, such as that of a missing disk.

Without its disk, the folder below a mount point is a usual folder. Files that are stored there are
hidden when the disk is back. So a process remembers the folder that it used, and a name in it. A
process that has used none asks whether the archive was used before, when the folder is empty.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from time import monotonic

from orchestrator.storage.errors import StorageError

#: An archive that was not used counts as such for this time. Seconds.
UNUSED_SECONDS = 1.0
_NEXT = (
    "mount its disk. If you mean a new archive, put any file into the folder and restart this"
    " process"
)


class KnownFolder:
    """The folder that this process has used.

    Args:
        root: the path of the folder.
        is_used: returns whether the folder must have files. It is asked when the folder is empty.
    """

    def __init__(self, root: str, is_used: Callable[[], bool]) -> None:
        self._root, self._is_used = root, is_used
        #: Device and number of the folder, and a name in it. None before the first use.
        self._known: tuple[tuple[int, int], str] | None = None
        self._ask_at = 0.0

    @property
    def is_known(self) -> bool:
        """Whether the folder was used. Until then, a check may ask Redis."""
        return self._known is not None

    def remember(self, path: str) -> None:
        """Remember the folder, after a file in it was found or stored."""
        name = path.partition("/")[0]
        if self._known is None or self._known[1] != name:
            self._keep(name)

    def _keep(self, name: str) -> None:
        status = self._status()
        if status is not None:
            self._known = (status.st_dev, status.st_ino), name

    def learn(self, path: str) -> None:
        """Remember the folder if none is known and it has this file."""
        if self._known is None and os.path.exists(f"{self._root}/{path}"):  # noqa: PTH110
            self.remember(path)

    def check_before_use(self) -> None:
        """Check that files may be stored in the folder.

        Raises:
            StorageError: it is another folder than before, or it is gone.
            OSError: this cannot be found out.
            Exception: what `is_used` raises.
        """
        # Meanwhile, others may have stored the first files, and recorded them.
        if self._known is None and self._is_empty() and self._was_used() and self._is_empty():
            raise StorageError(
                f"file://{self._root}: the folder is empty or missing, and images were archived"
                " before; mount its disk. If you mean a new archive, make the folder with any file"
                " in it"
            )
        self.check()

    def _was_used(self) -> bool:
        """Ask whether the archive was used. Many lists without files ask again and again."""
        if monotonic() < self._ask_at:
            return False
        was_used = self._is_used()
        if not was_used:
            self._ask_at = monotonic() + UNUSED_SECONDS
        return was_used

    def check(self) -> None:
        """Check that it is the folder that was used before, if one was.

        A disk that was away may have another number. Then the name in the folder tells. It is that
        of a day, because single files are deleted sooner.

        Raises:
            StorageError: it is another folder, or it is gone.
            OSError: this cannot be found out.
        """
        name = self._changed()
        if name is not None:
            try:
                os.stat(f"{self._root}/{name}")  # noqa: PTH116  # the root is a string
            except FileNotFoundError:
                raise self._other_folder() from None
            self._keep(name)

    def check_after_use(self) -> None:
        """Check that files were stored in the same folder.

        Raises:
            StorageError: it is another folder, or it is gone.
            OSError: this cannot be found out.
        """
        if self._changed() is not None:
            raise self._other_folder()

    def _changed(self) -> str | None:
        """Return a name of the known folder if there is another folder now.

        Raises:
            StorageError: there is none.
        """
        known = self._known
        if known is None:
            return None
        status = self._status()
        if status is None:
            raise StorageError(f"file://{self._root}: the folder is gone; {_NEXT}")
        return None if (status.st_dev, status.st_ino) == known[0] else known[1]

    def _other_folder(self) -> StorageError:
        return StorageError(
            f"file://{self._root}: this is another folder than before, without its images; {_NEXT}"
        )

    def _is_empty(self) -> bool:
        try:
            with os.scandir(self._root) as entries:
                return next(entries, None) is None
        except FileNotFoundError:
            return True
        except OSError:  # the first write says why
            return False

    def _status(self) -> os.stat_result | None:
        try:
            return os.stat(self._root)  # noqa: PTH116
        except FileNotFoundError:
            return None
