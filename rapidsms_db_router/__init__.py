"""A RapidSMS router that stores every message first and never loses one."""

from __future__ import annotations

from typing import Any

__all__ = ("DatabaseRouter", "__version__")

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # RAPIDSMS_ROUTER names this package, and Django imports the package before any model may
    # be imported: so the router comes on first use.
    if name == "DatabaseRouter":
        from rapidsms_db_router.router import DatabaseRouter

        return DatabaseRouter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
