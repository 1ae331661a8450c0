"""Writes new files, and has them survive a crash of the host. Steps of one step loop share syncs.

A file gets its name when its content is synced. Then the names are synced. File by file, that is
four syncs for a bundle of two files. Where a whole file system can be synced, all bundles that wait
at the same time share two syncs of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import monotonic_ns
from typing import Any

from orchestrator.rounds import Rounds
from orchestrator.step_loop import current_loop
from orchestrator.storage.file_system import can_be_synced, sync_file_system
from orchestrator.storage.files import NewFile, make_folder, sync_folder
from orchestrator.storage.known_folder import KnownFolder
from orchestrator.storage.source import Source

#: The folder of files that are being written, where they need a name. Paths of objects never begin
#: with a dot.
TEMPORARY = ".half"
#: The most bundles that share a sync.
MAX_BUNDLES = 1000
#: A step loop writes no longer files itself. Bytes.
LONG_BYTES = 64 * 1024

#: The files of a bundle: paths below the root, and contents.
Files = Sequence[tuple[str, Source]]
#: When a file was opened, ns, and its descriptor.
_Opened = tuple[int, int]
#: Runs an action in another thread, and returns its result.
Run = Callable[[Callable[[], Any]], Any]


class Commits:
    """The commits to one folder.

    Args:
        root: the folder. It is made when it is missing.
        known: remembers the folder.
    """

    def __init__(self, root: str, known: KnownFolder) -> None:
        self._root, self._known = root, known
        self._syncs: Rounds[_Opened, None] = Rounds(_synced, name="syncs", most=MAX_BUNDLES)

    def commit(self, files: Files, run: Run, written: Callable[[], None]) -> None:
        """Write and sync files. Existing ones are replaced.

        Args:
            files: of a bundle.
            run: runs what blocks, in a step loop.
            written: is called when the contents are written, and only syncs are left.

        Raises:
            OSError: it is not certain that all files survive a crash. Each has its old content or
                the new content.
            StorageError: it is another folder than before.
            Exception: the error of a source.
        """
        if not files:
            return
        if self._known.is_known:
            self._known.check_before_use()
        else:
            run(self._known.check_before_use)
        self._commit(files, run, written)
        self._known.check_after_use()  # a disk may go meanwhile
        self._known.remember(files[-1][0])

    def _commit(self, files: Files, run: Run, written: Callable[[], None]) -> None:
        with ExitStack() as closing:
            device = None if current_loop() is None else self._shared_device()
            if device is None:
                run(partial(self._commit_alone, closing, files))
                return
            opened, write = monotonic_ns(), partial(self._written, closing, files)
            is_long = sum(len(source) for _, source in files) > LONG_BYTES
            new: list[NewFile] = run(write) if is_long else write()
            written()
            if not self._committed_together(new, opened, device):
                run(partial(self._finish, new))

    def _shared_device(self) -> int | None:
        """Return the device of the root; None if its file system cannot be synced as a whole."""
        for _ in range(2):
            try:
                device = os.stat(self._root).st_dev  # noqa: PTH116  # it is a string
            except FileNotFoundError:
                make_folder(Path(self._root))
            except OSError:
                return None
            else:
                return device if can_be_synced(device) else None
        return None  # a link to nothing

    def _commit_alone(self, closing: ExitStack, files: Files) -> None:
        self._finish(self._written(closing, files))

    def _written(self, closing: ExitStack, files: Files) -> list[NewFile]:
        return [self._opened(closing, *file) for file in files]

    def _opened(self, closing: ExitStack, path: str, source: Source) -> NewFile:
        target, temporaries = f"{self._root}/{path}", f"{self._root}/{TEMPORARY}"
        file = NewFile.written(target, source.pieces(), temporaries=temporaries)
        closing.callback(file.close)
        source.close()  # it may hold much memory
        return file

    def _committed_together(self, files: list[NewFile], opened: int, device: int) -> bool:
        """Sync and name files with other steps. False: alone they may succeed, or say why.

        Args:
            files: of a bundle.
            opened: the time before they were opened, ns.
            device: that is synced. A folder below the root may be on another one.
        """
        descriptors = [file.descriptor for file in files if file.descriptor is not None]
        if len(descriptors) < len(files):
            return False
        of_folders = {file.folder: each for file, each in zip(files, descriptors, strict=True)}
        if {os.fstat(each).st_dev for each in of_folders.values()} != {device}:
            return False
        try:
            self._syncs.do((opened, descriptors[0]))
            for file in files:
                file.give_name()
            self._syncs.do((opened, descriptors[0]))
        except (OSError, RuntimeError):  # RuntimeError: there are too many threads
            return False
        return True

    def _finish(self, files: list[NewFile]) -> None:
        """Sync and name the files of one bundle."""
        for file in files:
            file.sync()
            file.give_name()
        for folder in dict.fromkeys(file.folder for file in files):
            sync_folder(folder)
            if folder != self._root:
                sync_folder(folder.rpartition("/")[0])


def _synced(opened: Sequence[_Opened]) -> list[Exception | None]:
    """Sync a file system for all bundles that wait. Return the error of each, or None.

    An open file reports the errors of the disk since it was opened. So the oldest one reports those
    of all bundles.
    """
    try:
        sync_file_system(min(opened)[1])
    except OSError as error:
        return [OSError(error.errno, error.strerror) for _ in opened]
    return [None] * len(opened)
