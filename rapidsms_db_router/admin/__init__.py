"""The admin: what became of every message; read-only, but for actions with own permissions."""

from __future__ import annotations

from rapidsms_db_router.admin.bulk_actions import BulkActionAdmin
from rapidsms_db_router.admin.gateways import GatewayAdmin
from rapidsms_db_router.admin.messages import MessageAdmin, TransmissionAdmin

__all__ = ("BulkActionAdmin", "GatewayAdmin", "MessageAdmin", "TransmissionAdmin")
