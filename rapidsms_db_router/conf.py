"""The only reader of this app's settings; each is read anew on every use."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

DEFAULTS: dict[str, int | float] = {
    "DB_ROUTER_DEFAULT_BATCH_SIZE": 200,
    "DB_ROUTER_MAX_RETRIES": 5,
    "DB_ROUTER_RETRY_BACKOFF": 60,
    "DB_ROUTER_VISIBILITY_TIMEOUT": 600,
    "DB_ROUTER_RECOVERY_INTERVAL": 60,
    "DB_ROUTER_ATOMIC_RECEIVE": False,
    "DB_ROUTER_LOOP_LIMIT": 50,
}

#: Calls of one backend at once, over all workers.
CONCURRENCY = 50
#: Seconds after which a call that has not answered is over.
TIMEOUT = 60.0
#: Values of "router.db.after_crash".
RESEND, ERROR = "resend", "error"
#: Engines of RapidSMS that call no gateway, but write to the database.
LOCAL_ENGINES = {
    "rapidsms.backends.database.DatabaseBackend",
    "rapidsms.backends.database.outgoing.DatabaseBackend",
    "rapidsms.contrib.messagetester.backend.MessageTesterBackend",
}
#: Where the ``prepare_request()`` of RapidSMS's engine for Kannel stands.
RAPIDSMS_KANNEL = "rapidsms.backends.kannel.outgoing"
#: Where the ``send()`` of engines stands that return no ids.
WITHOUT_IDS = ("rapidsms.", "rapidsms_db_router.gateways.kannel.")
#: What a value of "router.db.rate" looks like, and how many seconds its unit has.
RATE = re.compile(r"([1-9][0-9]{0,8})/([smh])")
UNITS = {"s": 1, "m": 60, "h": 3600}


def _get(name: str) -> Any:
    return getattr(settings, name, DEFAULTS[name])


def call_size(backend_name: str | None = None) -> int:
    """Return how many recipients one call of a backend may carry at most.

    :param backend_name: a name in ``INSTALLED_BACKENDS`` whose ``"router.db.batch_size"``
        comes before ``DB_ROUTER_DEFAULT_BATCH_SIZE``. The ``max_recipients`` of its engine, a
        number or a function of the backend's options, is never exceeded.
    """
    size = _get("DB_ROUTER_DEFAULT_BATCH_SIZE")
    if backend_name is None:
        return int(size)
    size = int(backend_option(backend_name, "router.db.batch_size", size))
    most = getattr(engine_class(backend_name), "max_recipients", None)
    if callable(most):
        most = most(_options(backend_name))
    return size if most is None else min(size, int(most))


def claim_size(backend_name: str | None = None) -> int:
    """Return how many transmissions of a backend one batch holds: some whole calls.

    :returns: no more than ``DB_ROUTER_DEFAULT_BATCH_SIZE``, unless one call carries more.
    """
    size = call_size(backend_name)
    return size * max(1, call_size() // size)


def max_retries(backend_name: str | None = None) -> int:
    """Return how many tries follow the first before a transmission is given up.

    :param backend_name: a name in ``INSTALLED_BACKENDS`` whose ``"router.db.max_retries"``
        comes before ``DB_ROUTER_MAX_RETRIES``.
    """
    default = _get("DB_ROUTER_MAX_RETRIES")
    return int(backend_option(backend_name, "router.db.max_retries", default))


def retry_backoff() -> float:
    """Return the delay before the first retry, in seconds (``DB_ROUTER_RETRY_BACKOFF``)."""
    return float(_get("DB_ROUTER_RETRY_BACKOFF"))


def visibility_timeout() -> float:
    """Return how long a claim counts if its lease is not renewed.

    In seconds (``DB_ROUTER_VISIBILITY_TIMEOUT``).
    """
    return float(_get("DB_ROUTER_VISIBILITY_TIMEOUT"))


def recovery_interval() -> float:
    """Return how often a worker looks for lost work.

    In seconds (``DB_ROUTER_RECOVERY_INTERVAL``).
    """
    return float(_get("DB_ROUTER_RECOVERY_INTERVAL"))


def after_crash(backend_name: str | None) -> str:
    """Return what becomes of transmissions whose outcome is unknown.

    ``"resend"``: they are sent again, at the risk that some get the message twice. ``"error"``:
    they are given up, at the risk that some do not get it (``"router.db.after_crash"``).
    """
    return str(backend_option(backend_name, "router.db.after_crash", RESEND))


def concurrency(backend_name: str | None) -> int:
    """Return how many calls of a backend may be in flight at once, over all workers.

    ``"router.db.concurrency"``; :data:`CONCURRENCY` if the backend does not set it.
    """
    return int(backend_option(backend_name, "router.db.concurrency", CONCURRENCY))


def timeout(backend_name: str | None) -> float:
    """Return how long a call of a backend may take, in seconds.

    ``"router.db.timeout"``; :data:`TIMEOUT` if the backend does not set it.
    """
    return float(backend_option(backend_name, "router.db.timeout", TIMEOUT))


def rate(backend_name: str | None) -> float | None:
    """Return how many SMS segments a second a backend may be given, over all workers.

    ``None`` if it sets no ``"router.db.rate"``: as many as it takes.
    """
    return parse_rate(backend_option(backend_name, "router.db.rate", None))


def parse_rate(said: Any) -> float | None:
    """Return what a rate such as ``"300/s"`` means, in segments a second; ``None`` if nothing."""
    found = None if said is None else RATE.fullmatch(str(said))
    return None if found is None else int(found[1]) / UNITS[found[2]]


def coding(backend_name: str | None) -> int | None:
    """Return the coding that a backend uses for each text, as Kannel numbers it.

    ``None`` if the text decides, as it does for all but RapidSMS's Kannel backend.
    """
    if not is_rapidsms_kannel(backend_name):
        return None
    said = str(backend_option(backend_name, "coding", 0))
    return int(said) if said in ("1", "2") else 0


def is_rapidsms_kannel(backend_name: str | None) -> bool:
    """Return whether requests are RapidSMS's Kannel backend's, also if a subclass sends them."""
    prepare = getattr(engine_class(backend_name), "prepare_request", None)
    return getattr(prepare, "__module__", None) == RAPIDSMS_KANNEL


def queue(backend_name: str | None) -> str | None:
    """Return the Celery queue of a backend's tasks (``"router.db.queue"``), if it has its own."""
    name = backend_option(backend_name, "router.db.queue", None)
    return None if name is None else str(name)


def is_local(backend_name: str | None) -> bool:
    """Return whether a backend of RapidSMS's own only writes rows: no gateway is behind it."""
    return str(backend_option(backend_name, "engine", "")) in LOCAL_ENGINES


def engine_class(backend_name: str | None) -> Any:
    """Return the class of a backend; ``None`` if it cannot be imported."""
    engine = backend_option(backend_name, "engine", None)
    if not isinstance(engine, str):
        return engine
    try:
        return import_string(engine)
    except Exception:  # a message is stored all the same; the check E010 says what is wrong
        return None


def returns_ids(backend_name: str | None) -> bool:
    """Return whether a backend may return the gateway's ids of what it sends."""
    send = getattr(engine_class(backend_name), "send", None)
    return not str(getattr(send, "__module__", "")).startswith(WITHOUT_IDS)


def atomic_receive() -> bool:
    """Return whether apps run in the transaction that stores their replies."""
    return bool(_get("DB_ROUTER_ATOMIC_RECEIVE"))


def loop_limit() -> int:
    """Return how many replies of one text a connection gets in five minutes; 0: any number."""
    return int(_get("DB_ROUTER_LOOP_LIMIT"))


def is_eager(backend_name: str | None) -> bool:
    """Return whether a backend's messages are handled in the process that stored them.

    A backend says so with ``"router.db.eager": True``, or with CeleryRouter's
    ``"router.celery.eager": True``.
    """
    celery_router_way = backend_option(backend_name, "router.celery.eager", False)
    return bool(backend_option(backend_name, "router.db.eager", celery_router_way))


def has_eager_backend() -> bool:
    """Return whether any installed backend is eager."""
    return any(is_eager(name) for name, _ in installed_backends())


def installed_backends() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each backend's name and its options with keys in lower case, as RapidSMS has them."""
    for name, options in getattr(settings, "INSTALLED_BACKENDS", {}).items():
        yield name, {str(key).lower(): value for key, value in options.items()}


def backend_option(backend_name: str | None, key: str, default: Any) -> Any:
    """Return one option of one backend, or ``default`` if the backend does not set it."""
    return _options(backend_name).get(key, default)


def _options(backend_name: str | None) -> dict[str, Any]:
    """Return the options of one backend, with keys in lower case; none if it is not installed."""
    options = getattr(settings, "INSTALLED_BACKENDS", {}).get(backend_name) or {}
    # of several spellings the last one counts, as for RapidSMS
    return {str(name).lower(): value for name, value in options.items()}
