"""The migrations of the history's tables."""

from __future__ import annotations

import logging
from importlib.resources import as_file, files

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection

from orchestrator.history.errors import HistoryUnavailable


def upgrade(connection: Connection) -> None:
    """Apply the migrations that the database does not have yet, in its present transaction.

    Raises:
        HistoryUnavailable: the database belongs to a newer version of the product.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with as_file(files("orchestrator.history.migrations")) as folder:
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise HistoryUnavailable(f"its tables belong to another version: {error}") from None
