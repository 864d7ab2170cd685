"""What all pages share: who may see them, and what their template gets."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.mixins import LoginRequiredMixin, PermissionRequiredMixin
from django.http import HttpResponseRedirect
from django.views.generic import TemplateView

from rapidsms_db_router.personal import VIEW


class OperatorsPage(LoginRequiredMixin, PermissionRequiredMixin, TemplateView):
    """A page for operators: of others it asks to log in, or refuses them with 403."""

    permission_required: Any = VIEW
    #: The entry of the pages' menu that is shown as the current one.
    menu = ""

    def handle_no_permission(self) -> HttpResponseRedirect:
        self.raise_exception = self.request.user.is_authenticated
        return super().handle_no_permission()

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(menu=self.menu, **kwargs)
