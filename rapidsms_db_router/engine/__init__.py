"""The statements of every message and every batch, in the dialect of the database.

:class:`~rapidsms_db_router.engine.portable.Portable` has them for every database that Django
supports; :class:`~rapidsms_db_router.engine.postgresql.PostgreSQL` needs fewer of them.
"""

from __future__ import annotations

from rapidsms_db_router.db.connection import connection
from rapidsms_db_router.engine.portable import Portable, Recipient
from rapidsms_db_router.engine.postgresql import PostgreSQL

__all__ = ("Portable", "Recipient", "engine")

PORTABLE, POSTGRESQL = Portable(), PostgreSQL()


def engine() -> Portable:
    """Return the engine of the database that messages are stored in."""
    return POSTGRESQL if connection().vendor == "postgresql" else PORTABLE
