"""Delivery reports: what a gateway says became of what it was given."""

from __future__ import annotations

from rapidsms_db_router.reports.recording import expire, follow_early, record, record_all

__all__ = ("expire", "follow_early", "record", "record_all")
