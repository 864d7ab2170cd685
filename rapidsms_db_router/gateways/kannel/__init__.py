"""Kannel: a backend that sends through it, and views for what it posts."""

from __future__ import annotations

from rapidsms_db_router.gateways.kannel.outgoing import KannelBackend

__all__ = ("KannelBackend",)
