"""Checks of who may post what, and read what; only ``check --deploy`` runs them."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from celery import current_app
from django.core.checks import CheckMessage, Tags, Warning, register
from django.urls import URLPattern, URLResolver, get_resolver

from rapidsms_db_router.checks.settings import ID

#: RapidSMS's views for gateways, which take what anybody posts.
OPEN_VIEWS = {
    "rapidsms.backends.http.views.BaseHttpBackendView",
    "rapidsms.backends.kannel.views.DeliveryReportView",
}
GUARD = (
    "Give its as_view() secret= or networks=; docs/howto/security.rst has who may post what, and"
    " what a proxy has to do."
)


@register(Tags.security, deploy=True)
def check_views(**_: Any) -> list[CheckMessage]:
    """Check each view for gateways that the URL configuration reaches (``check --deploy``).

    W050
        A view of this app has no guard: it has no ``secret=`` and no ``networks=``, and
        takes no signed reports.
    W051
        A view of RapidSMS takes messages or reports from everybody.
    W052
        ``networks=`` names this machine, on which a proxy may run, and ``trusted_proxies=`` does
        not.
    """
    try:
        return [each for view in _views(get_resolver()) for each in _check_view(*view)]
    except Exception:  # Django's own checks tell what is wrong with the URL configuration
        return []


def _views(resolver: URLResolver, route: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each route and its callback."""
    for pattern in resolver.url_patterns:
        here = route + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _views(pattern, here)
        elif isinstance(pattern, URLPattern):
            yield here, pattern.callback


def _check_view(route: str, callback: Any) -> Iterator[CheckMessage]:
    class_ = getattr(callback, "view_class", None)
    if class_ is None:
        return
    # by what they have: our views stand above the checks
    if hasattr(class_, "is_open"):
        view = class_(**callback.view_initkwargs)
        if view.is_open():
            yield Warning(
                f"Everybody may post to {class_.__name__} at {route!r}.", hint=GUARD, id=ID + "W050"
            )
        elif _names_this_machine(view.networks) and not view.trusted_proxies:
            yield Warning(
                f"{class_.__name__} at {route!r} lets in what comes from this machine. Where a"
                " proxy such as nginx runs on it, that is everybody.",
                hint="Set trusted_proxies= to the proxy's address, and have the proxy set"
                " X-Forwarded-For; or ask for a secret.",
                id=ID + "W052",
            )
    elif OPEN_VIEWS & {f"{each.__module__}.{each.__qualname__}" for each in class_.__mro__}:
        yield Warning(
            f"Everybody may post to RapidSMS's {class_.__name__} at {route!r}, and it logs what it"
            " refuses with text and number.",
            hint="Use the view of rapidsms_db_router.gateways in its place, with secret= or"
            " networks=.",
            id=ID + "W051",
        )


def _names_this_machine(networks: Any) -> bool:
    several = [networks] if isinstance(networks, str) else networks or ()
    return any(ip_network(each, strict=False).is_loopback for each in several)


@register(Tags.security, deploy=True)
def check_broker_folder(**_: Any) -> list[CheckMessage]:
    """Check who may read the tasks of the file-system broker (``check --deploy``).

    W053
        Other users of the machine may read or write a folder of the broker.
    """
    try:
        with current_app.connection_for_write() as connection:
            if connection.transport.driver_type != "filesystem":
                return []
            names = ("data_folder_in", "data_folder_out", "control_folder")
            options = connection.transport_options
            folders = {Path(options[name]).resolve() for name in names if name in options}
    except Exception:  # as E030 and E033 say
        return []
    return [
        Warning(
            f"Other users may read or write {folder}, a folder of the broker.",
            hint=f"Have it owned by the user of the web server and the workers: chmod 700 {folder}",
            id=ID + "W053",
        )
        for folder in sorted(folders)
        if folder.exists() and folder.stat().st_mode & 0o077
    ]
