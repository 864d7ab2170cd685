"""Statuses in words, and the filter by them: what is tried again is told from what has failed."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _

from rapidsms_db_router.choices import FAILED, RETRYING, UNDER_WAY, WORDS, Status
from rapidsms_db_router.models import Message, message, transmission


class StateFilter(admin.SimpleListFilter):
    """Messages or transmissions by status; Errored ones by whether another try follows."""

    title = "status"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """List the choices: the letters, and two words for E."""
        words = dict(WORDS)
        if model_admin.model is Message:
            words[Status.PROCESSING] = UNDER_WAY
        plain = [(str(status), _(word)) for status, word in words.items()]
        return [*plain, (RETRYING, _(RETRYING)), (FAILED, _(FAILED))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Select by status."""
        said = self.value()
        retrying = message.RETRYING if queryset.model is Message else transmission.RETRYING
        if said == RETRYING:
            return queryset.filter(retrying)
        if said == FAILED:
            return queryset.filter(Q(status=Status.ERRORED) & ~retrying)
        return queryset.filter(status=said) if said in Status.values else queryset
