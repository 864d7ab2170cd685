"""The service's own rows in the admin."""

from django.contrib import admin

from demo.health.models import CaseReport


@admin.register(CaseReport)
class CaseReportAdmin(admin.ModelAdmin):
    """Reports of cases."""

    list_display = ("date", "reporter", "disease", "cases", "message")
    list_filter = ("disease", "date")
    list_select_related = ("reporter", "message")
    raw_id_fields = ("message", "reporter")
