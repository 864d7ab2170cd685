"""Recovery: what a worker does by itself about work that was lost.

Everything that is claimed has a date on which its lease ends; whoever works on it renews the lease.
What is past that date no process works on. Each rescue is a compare-and-set on that date, so that
two recoveries at the same time do no harm.
"""

from __future__ import annotations

from rapidsms_db_router.recovery.rescue import Found, recover

__all__ = ("Found", "recover")
