"""Gateways that take SMS by HTTP: a backend, and views for what they post."""

from __future__ import annotations

from rapidsms_db_router.gateways.http.outgoing import HttpBackend

__all__ = ("HttpBackend",)
