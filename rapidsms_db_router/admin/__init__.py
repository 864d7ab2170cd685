"""The admin: what became of every message; read-only, but for actions with own permissions."""

from __future__ import annotations

from rapidsms_db_router.admin import backends  # noqa: F401
from rapidsms_db_router.admin.bulk_actions import BulkActionAdmin
from rapidsms_db_router.admin.gateways import GatewayAdmin
from rapidsms_db_router.admin.messages import MessageAdmin, TransmissionAdmin
from rapidsms_db_router.admin.reports import EarlyReportAdmin

__all__ = (
    "BulkActionAdmin",
    "EarlyReportAdmin",
    "GatewayAdmin",
    "MessageAdmin",
    "TransmissionAdmin",
)
