"""Gateways: backends that send, and views for what gateways post."""

from __future__ import annotations

from rapidsms_db_router.gateways.http.outgoing import HttpBackend

__all__ = ("HttpBackend",)
