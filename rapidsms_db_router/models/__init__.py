"""Messages and their transmissions, what is still to be sent of them, and what backends may do."""

from __future__ import annotations

from rapidsms_db_router.models.backend import BackendState, Gateway, SlotLease
from rapidsms_db_router.models.batch import Batch
from rapidsms_db_router.models.bulk_action import BulkAction, BulkActionChunk
from rapidsms_db_router.models.early_report import EarlyReport
from rapidsms_db_router.models.former_connection import FormerConnection
from rapidsms_db_router.models.message import Message
from rapidsms_db_router.models.part import Part
from rapidsms_db_router.models.recovery_schedule import RecoverySchedule
from rapidsms_db_router.models.transmission import Transmission

__all__ = (
    "BackendState",
    "Batch",
    "BulkAction",
    "BulkActionChunk",
    "EarlyReport",
    "FormerConnection",
    "Gateway",
    "Message",
    "Part",
    "RecoverySchedule",
    "SlotLease",
    "Transmission",
)
