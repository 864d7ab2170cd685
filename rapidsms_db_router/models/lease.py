"""How long a claim counts."""

from __future__ import annotations

import datetime

from rapidsms_db_router import conf
from rapidsms_db_router.db.clock import now


def lease() -> datetime.datetime:
    """Return until when a claim that is made or renewed now counts."""
    return now() + datetime.timedelta(seconds=conf.visibility_timeout())
