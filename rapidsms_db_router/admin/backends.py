"""RapidSMS's page of backends: one with millions of connections can be deleted there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from rapidsms import admin as rapidsms_admin  # noqa: F401 - registers the page
from rapidsms.models import Backend, Connection

from rapidsms_db_router import deleting
from rapidsms_db_router.admin.pages import Linking, address
from rapidsms_db_router.db.connection import alias


def _replace() -> None:
    """Register the page again, whoever has made it, with other ways to delete."""
    registered: Any = admin.site._registry.get(Backend)
    if registered is not None:
        usual = type(registered)
        admin.site.unregister(Backend)
        admin.site.register(Backend, type(usual.__name__, (_Deletes, usual), {}))


class _Deletes(Linking):
    """Counts what is deleted with a backend, and does not list it."""

    def get_model_perms(self, request: HttpRequest) -> dict[str, bool]:
        """Leave the menu's entry to our page, which leads here, for those who may see that."""
        may_see_ours = request.user.has_perm("rapidsms_db_router.view_gateway")
        usual: Any = super()
        return {} if may_see_ours else usual.get_model_perms(request)

    def view_on_site(self, obj: Backend) -> str | None:
        """The operators' page of the backend."""
        return address("router-backend", obj.pk)

    def get_deleted_objects(self, objs: Iterable[Backend], request: HttpRequest) -> Any:
        """Return what the page asks about: names, counts, and what lacks."""
        backends = list(objs)
        keys = [backend.pk for backend in backends]
        count = Connection.objects.using(alias()).filter(backend__in=keys).count()
        said = ngettext("%(number)s connection", "%(number)s connections", count)
        names = [*map(str, backends), said % {"number": count}]
        lacking = {
            _(word)
            for word in ("backend", "connection")
            if not request.user.has_perm(f"rapidsms.delete_{word}")
        }
        return names, {_("backends"): len(keys), _("connections"): count}, lacking, []

    def delete_model(self, request: HttpRequest, obj: Backend) -> None:
        """Delete a backend with its connections."""
        deleting.delete_backend(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Backend]) -> None:
        """Delete several."""
        for backend in queryset:
            deleting.delete_backend(backend)


_replace()
