"""Checks of the settings of this app and of the backends."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.utils.module_loading import import_string

from rapidsms_db_router import conf

#: What all ids begin with.
ID = "rapidsms_db_router."
KANNEL_ENGINES = (
    "rapidsms.backends.kannel.KannelBackend",
    "rapidsms.backends.kannel.outgoing.KannelBackend",
)


def _positive_integer(value: Any) -> bool:
    return type(value) is int and value > 0


def _natural_number(value: Any) -> bool:
    return type(value) is int and value >= 0


def _positive_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < float("inf")


def _truth(value: Any) -> bool:
    return isinstance(value, bool)


def _name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _rate(value: Any) -> bool:
    return isinstance(value, str) and conf.RATE.fullmatch(value) is not None


def _crash_policy(value: Any) -> bool:
    return value in (conf.RESEND, conf.ERROR)


Kind = tuple[Callable[[Any], bool], str]
POSITIVE_INTEGER: Kind = (_positive_integer, "a positive integer")
NATURAL_NUMBER: Kind = (_natural_number, "an integer, 0 or more")
POSITIVE_NUMBER: Kind = (_positive_number, "a number of seconds, more than 0")
TRUTH: Kind = (_truth, "True or False")
NAME: Kind = (_name, "the name of a Celery queue")
RATE: Kind = (_rate, "a number of SMS a second, minute or hour, such as '30/s' or '600/m'")
CRASH_POLICY: Kind = (_crash_policy, f"{conf.RESEND!r} or {conf.ERROR!r}")

SETTINGS: dict[str, tuple[str, Kind]] = {
    "DB_ROUTER_DEFAULT_BATCH_SIZE": ("E001", POSITIVE_INTEGER),
    "DB_ROUTER_MAX_RETRIES": ("E002", NATURAL_NUMBER),
    "DB_ROUTER_RETRY_BACKOFF": ("E003", POSITIVE_NUMBER),
    "DB_ROUTER_VISIBILITY_TIMEOUT": ("E004", POSITIVE_NUMBER),
    "DB_ROUTER_RECOVERY_INTERVAL": ("E005", POSITIVE_NUMBER),
    "DB_ROUTER_ATOMIC_RECEIVE": ("E006", TRUTH),
}
BACKEND_OPTIONS: dict[str, Kind] = {
    "router.db.after_crash": CRASH_POLICY,
    "router.db.batch_size": POSITIVE_INTEGER,
    "router.db.concurrency": POSITIVE_INTEGER,
    "router.db.eager": TRUTH,
    "router.db.max_retries": NATURAL_NUMBER,
    "router.db.queue": NAME,
    "router.db.rate": RATE,
    "router.db.timeout": POSITIVE_NUMBER,
}


@register(Tags.compatibility)
def check_settings(**_: Any) -> list[CheckMessage]:
    """Check that each setting has a value of its kind.

    E001
        ``DB_ROUTER_DEFAULT_BATCH_SIZE`` is no positive integer.
    E002
        ``DB_ROUTER_MAX_RETRIES`` is no integer of 0 or more.
    E003
        ``DB_ROUTER_RETRY_BACKOFF`` is no number of seconds above 0.
    E004
        ``DB_ROUTER_VISIBILITY_TIMEOUT`` is no number of seconds above 0.
    E005
        ``DB_ROUTER_RECOVERY_INTERVAL`` is no number of seconds above 0.
    E006
        ``DB_ROUTER_ATOMIC_RECEIVE`` is neither ``True`` nor ``False``.
    """
    found: list[CheckMessage] = []
    for name, (id_, (fits, kind)) in SETTINGS.items():
        value = getattr(settings, name, conf.DEFAULTS[name])
        if not fits(value):
            found.append(
                Error(
                    f"{name} is {value!r}, which is not {kind}.",
                    hint=f"Set it to {kind}, or remove it for {conf.DEFAULTS[name]}.",
                    id=ID + id_,
                )
            )
    return found


@register(Tags.compatibility)
def check_backends(**_: Any) -> list[CheckMessage]:
    """Check each entry of ``INSTALLED_BACKENDS``.

    E010
        ``ENGINE`` is missing, or cannot be imported.
    E011
        A key that begins with ``router.db.`` is no option of the router.
    E012
        An option of the router has a value that is not of its kind.
    W013
        RapidSMS's Kannel backend is given several recipients in one call.
    """
    found: list[CheckMessage] = []
    for backend, options in conf.installed_backends():
        found += _check_engine(backend, options.get("engine"))
        if str(options.get("engine")) in KANNEL_ENGINES and _several_in_a_call(options):
            found.append(
                Warning(
                    f"Backend {backend!r} gives Kannel several recipients in one call. Kannel gives"
                    " all their messages one id: if it is killed, all but the first are lost, and"
                    " reports may be taken for each other's.",
                    hint="Set its 'router.db.batch_size' to 1.",
                    id=ID + "W013",
                )
            )
        for key, value in options.items():
            if not key.startswith("router.db."):
                continue
            if key not in BACKEND_OPTIONS:
                found.append(
                    Error(
                        f"Backend {backend!r} sets {key!r}, which is no option of the router.",
                        hint=_nearest(key, BACKEND_OPTIONS),
                        id=ID + "E011",
                    )
                )
            elif not BACKEND_OPTIONS[key][0](value):
                kind = BACKEND_OPTIONS[key][1]
                found.append(
                    Error(
                        f"Backend {backend!r} sets {key!r} to {value!r}, which is not {kind}.",
                        hint=f"Set it to {kind}, or remove it.",
                        id=ID + "E012",
                    )
                )
    return found


def _several_in_a_call(options: Mapping[str, Any]) -> bool:
    return bool(options.get("router.db.batch_size", conf.call_size()) != 1)


def _check_engine(backend: str, engine: Any) -> Iterator[CheckMessage]:
    if isinstance(engine, str):
        try:
            import_string(engine)
            return
        except ImportError as err:
            problem = f"whose ENGINE {engine!r} cannot be imported: {err}"
    elif engine is None:
        problem = "without an ENGINE"
    else:
        return
    yield Error(
        f"INSTALLED_BACKENDS has a backend {backend!r} {problem}.",
        hint="Set ENGINE to the dotted path of a subclass of rapidsms.backends.base.BackendBase.",
        id=ID + "E010",
    )


def _nearest(name: str, known: dict[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0)
    return f"Did you mean {close[0]!r}? Known are {', '.join(known)}."
