"""Writes new files, and has them survive a crash of the host. Bundles of one step loop share syncs.

A file gets its name when its content is synced. Then the names are synced. File by file, that is
four syncs for a bundle of two files. All bundles that wait together share two syncs of the whole
file system, where that is possible.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import chain

from orchestrator.rounds import Rounds
from orchestrator.storage.file_system import can_be_synced, sync_file_system
from orchestrator.storage.files import NewFile, sync_folder
from orchestrator.storage.source import Source

#: The folder of files that are being written, where they need a name. Paths of objects never begin
#: with a dot.
TEMPORARY = ".half"
#: The most bundles that share syncs.
MAX_BUNDLES = 64

#: The files of a bundle: paths below the root, and contents.
Files = Sequence[tuple[str, Source]]


class Commits:
    """The commits to one folder.

    Args:
        root: the folder. It is made when it is missing.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._rounds: Rounds[Files, None] = Rounds(self._written, name="commits", most=MAX_BUNDLES)

    def commit(self, files: Files) -> None:
        """Write and sync files. Existing ones are replaced.

        Raises:
            OSError: it is not certain that all files survive a crash. Each has its old content or
                the new content.
            Exception: the error of a source.
        """
        self._rounds.do(files)

    def _written(self, bundles: Sequence[Files]) -> list[Exception | None]:
        """Commit bundles. Return the error of each, or None."""
        errors: list[Exception | None] = [None] * len(bundles)
        with ExitStack() as closing:
            opened: dict[int, list[NewFile]] = {}
            for number, files in enumerate(bundles):
                try:
                    opened[number] = [self._opened(closing, *file) for file in files]
                except Exception as error:  # noqa: BLE001  # it belongs to this bundle
                    errors[number] = error
            if len(opened) > 1 and _finished_together(list(chain(*opened.values()))):
                return errors
            for number, new in opened.items():
                try:
                    self._finish(new)
                except OSError as error:
                    errors[number] = error
        return errors

    def _opened(self, closing: ExitStack, path: str, source: Source) -> NewFile:
        temporary = f"{self._root}/{TEMPORARY}/{secrets.token_hex(16)}"
        file = NewFile.written(f"{self._root}/{path}", source.pieces(), temporary=temporary)
        closing.callback(file.close)
        return file

    def _finish(self, files: list[NewFile]) -> None:
        """Sync and name the files of one bundle."""
        for file in files:
            file.sync()
            file.give_name()
        for folder in dict.fromkeys(file.folder for file in files):
            sync_folder(folder)
            if folder != self._root:
                sync_folder(folder.rpartition("/")[0])


def _finished_together(files: list[NewFile]) -> bool:
    """Sync and name files of several bundles. False: one by one they may succeed, or say why."""
    descriptors = [file.descriptor for file in files if file.descriptor is not None]
    devices = {os.fstat(each).st_dev for each in descriptors}
    if len(descriptors) < len(files) or len(devices) != 1 or not can_be_synced(*devices):
        return False
    try:
        sync_file_system(descriptors[0])
        for file in files:
            file.give_name()
        sync_file_system(descriptors[0])
    except OSError:
        return False
    return True
