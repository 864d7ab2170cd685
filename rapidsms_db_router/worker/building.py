"""Building a router's apps and backends, which are strangers' code and may fail for a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from django.conf import settings
from rapidsms.router.blocking import BlockingRouter

from rapidsms_db_router.db.connection import contained
from rapidsms_db_router.errors import RouterNotBuilt

logger = logging.getLogger(__name__)

#: What could not be built is built again no sooner than this, in seconds.
BUILD_AGAIN = 1.0
#: A backend that could not be built is called again after this many seconds.
CALL_AGAIN = 5.0


class LazyRouter(BlockingRouter):
    """Builds its apps, and each backend, when they are first looked at.

    RapidSMS makes a router for each message. To store a message takes neither apps nor backends,
    and to call a backend takes no other.

    :param apps: as for RapidSMS's router; by default ``INSTALLED_APPS``.
    :param backends: as there; by default ``INSTALLED_BACKENDS``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._given = kwargs
        configured = kwargs.get("backends", getattr(settings, "INSTALLED_BACKENDS", {}))
        self.backends = Backends(self, configured)
        #: Apps that could not be built, and when that was tried.
        self._missing: list[str] = []
        self._tried = 0.0

    def __getattr__(self, name: str) -> Any:
        if name != "apps":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self._build_apps()
        return self.__dict__[name]

    def require_apps(self) -> None:
        """Build the apps, unless they are built; again if one could not be built before.

        :raises ~rapidsms_db_router.errors.RouterNotBuilt: if an app cannot be built. No inbound
            message is to be processed then: the other apps would answer in its place.
        """
        again = self._missing and time.monotonic() - self._tried > BUILD_AGAIN
        if "apps" not in self.__dict__ or again:
            self._build_apps()
        if self._missing:
            raise RouterNotBuilt(f"App {self._missing[0]!r} cannot be built.", CALL_AGAIN)

    def _build_apps(self) -> None:
        self.apps: list[Any] = []
        self._missing, self._tried = [], time.monotonic()
        for app in self._given.get("apps", settings.INSTALLED_APPS):
            try:
                with contained():
                    self.add_app(app)
            except Exception as exc:
                self._missing.append(str(app))
                logger.error("app_not_built app=%s error=%s", app, type(exc).__name__)
                logger.debug("app_not_built app=%s", app, exc_info=True)


class Backends(MutableMapping[str, Any]):
    """The backends of a router by name, each built when it is first looked at.

    A backend that cannot be built raises :exc:`~rapidsms_db_router.errors.RouterNotBuilt`, and is
    built again when it is looked at again; the others have nothing to do with it.

    :param router: whose they are.
    :param configured: their options by name.
    """

    def __init__(self, router: BlockingRouter, configured: Mapping[str, Any]) -> None:
        self._router = router
        self._configured = dict(configured)
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._built:
            options = {key.lower(): value for key, value in self._configured[name].items()}
            try:
                self._router.add_backend(name, options.pop("engine", None), options)
            except Exception as exc:
                logger.error("backend_not_built backend=%s error=%s", name, type(exc).__name__)
                logger.debug("backend_not_built backend=%s", name, exc_info=True)
                reason = f"Backend {name!r} cannot be built: {type(exc).__name__}."
                raise RouterNotBuilt(reason, CALL_AGAIN) from exc
        return self._built[name]

    def __setitem__(self, name: str, backend: Any) -> None:
        self._configured.setdefault(name, {})
        self._built[name] = backend

    def __delitem__(self, name: str) -> None:
        del self._configured[name]
        self._built.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._configured)

    def __len__(self) -> int:
        return len(self._configured)
