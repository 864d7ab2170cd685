"""The page of delivery reports whose ids no backend has returned."""

from __future__ import annotations

from typing import ClassVar

from django.contrib import admin

from rapidsms_db_router.admin.base import ReadOnlyAdmin
from rapidsms_db_router.models import EarlyReport


@admin.register(EarlyReport)
class EarlyReportAdmin(ReadOnlyAdmin):
    """Early reports. Where many stay, the gateway writes ids otherwise than its backend does."""

    list_display = (
        "id",
        "received",
        "external_id",
        "backend",
        "message_id",
        "identity",
        "outcome",
        "reason",
    )
    # Django makes a link of it
    linking: ClassVar[dict[str, tuple[str, str]]] = {
        "backend": ("rapidsms.view_backend", "backend_name")
    }
    personal: ClassVar[dict[str, str]] = {"identity": "", "reason": ""}
    list_select_related = ("backend",)
    list_filter = ("backend", "outcome")
    search_fields = ("=external_id",)
    search_help_text = "An external id"

    @admin.display(description="backend")
    def backend_name(self, report: EarlyReport) -> str:
        """Which backend the gateway reports of."""
        return str(report.backend)
