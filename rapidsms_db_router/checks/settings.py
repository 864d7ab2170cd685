"""Checks of the settings of this app and of the backends."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from rapidsms.backends.base import BackendBase

from rapidsms_db_router import conf
from rapidsms_db_router.db.text import shown

#: Engines of the RapidSMS community that name no recipient when they fail in the middle of a call.
ONE_RECIPIENT = {
    "rtwilio.outgoing.TwilioBackend": "raises at the first recipient that fails",
    "envaya_nexmo.backend.NexmoOutgoingBackend": "raises at the first recipient that fails",
    "rapidsms_telerivet.outgoing.TelerivetBackend": "returns at the first recipient that fails",
    "rapidsms_multimodem.outgoing.MultiModemBackend": "does not say which recipient was refused",
}
#: What all ids begin with.
ID = "rapidsms_db_router."
OUR_KANNEL_ENGINE = "rapidsms_db_router.gateways.kannel.KannelBackend"


#: What every database's integers hold.
LARGEST_INTEGER = 2**31 - 1
#: A year, in seconds: no date is beyond what a database holds.
LONGEST_TIME = 31_536_000
#: Segments a second: of a higher rate a grant has no whole microsecond for one segment.
HIGHEST_RATE = 10_000


def _positive_integer(value: Any) -> bool:
    return type(value) is int and 0 < value <= LARGEST_INTEGER


def _natural_number(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST_INTEGER


def _positive_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value <= LONGEST_TIME


def _truth(value: Any) -> bool:
    return isinstance(value, bool)


def _name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _rate(value: Any) -> bool:
    if not isinstance(value, str) or (found := conf.RATE.fullmatch(value)) is None:
        return False
    return int(found[1]) <= HIGHEST_RATE * conf.UNITS[found[2]]


def _crash_policy(value: Any) -> bool:
    return value in (conf.RESEND, conf.ERROR)


Kind = tuple[Callable[[Any], bool], str]
POSITIVE_INTEGER: Kind = (_positive_integer, "a positive integer, at most 2147483647")
NATURAL_NUMBER: Kind = (_natural_number, "an integer from 0 to 2147483647")
POSITIVE_NUMBER: Kind = (_positive_number, "a number of seconds, more than 0 and at most a year")
TRUTH: Kind = (_truth, "True or False")
NAME: Kind = (_name, "the name of a Celery queue")
RATE: Kind = (
    _rate,
    "a number of SMS a second, minute or hour, such as '30/s' or '600/m', at most '10000/s'",
)
CRASH_POLICY: Kind = (_crash_policy, f"{conf.RESEND!r} or {conf.ERROR!r}")

SETTINGS: dict[str, tuple[str, Kind]] = {
    "DB_ROUTER_DEFAULT_BATCH_SIZE": ("E001", POSITIVE_INTEGER),
    "DB_ROUTER_MAX_RETRIES": ("E002", NATURAL_NUMBER),
    "DB_ROUTER_RETRY_BACKOFF": ("E003", POSITIVE_NUMBER),
    "DB_ROUTER_VISIBILITY_TIMEOUT": ("E004", POSITIVE_NUMBER),
    "DB_ROUTER_RECOVERY_INTERVAL": ("E005", POSITIVE_NUMBER),
    "DB_ROUTER_ATOMIC_RECEIVE": ("E006", TRUTH),
    "DB_ROUTER_LOOP_LIMIT": ("E007", NATURAL_NUMBER),
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
    E007
        ``DB_ROUTER_LOOP_LIMIT`` is no integer of 0 or more.
    """
    found: list[CheckMessage] = []
    for name, (id_, (fits, kind)) in SETTINGS.items():
        value = getattr(settings, name, conf.DEFAULTS[name])
        if not fits(value):
            found.append(
                Error(
                    f"{name} is {shown(value)}, which is not {kind}.",
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
    E013
        ``INSTALLED_BACKENDS`` is no dictionary of dictionaries with texts as keys.
    W013
        RapidSMS's Kannel backend is given several recipients in one call.
    W014
        RapidSMS's Kannel backend is used, which changes texts.
    E014
        An option of this app's Kannel backend has a value that is not of its kind.
    E016
        An option of the HTTP backend is wrong.
    E015
        This app's Kannel backend is to have delivery reports, and no URL takes them.
    W015
        An option is set that this app's Kannel backend does not use.
    W016
        An engine of the RapidSMS community that was written for one recipient is given several
        recipients in one call.
    W019
        ``INSTALLED_BACKENDS`` is missing, or empty.
    """
    backends = getattr(settings, "INSTALLED_BACKENDS", {})
    if not isinstance(backends, Mapping):
        # not shown: there may be a password in it
        return [_ill_formed(f"INSTALLED_BACKENDS is a {type(backends).__name__}.")]
    if not backends:
        return [
            Warning(
                "INSTALLED_BACKENDS is missing or empty, so that no message can be sent.",
                hint="Add a backend for each gateway, such as {'gateway': {'ENGINE':"
                " 'rapidsms.backends.database.DatabaseBackend'}}.",
                id=ID + "W019",
            )
        ]
    found: list[CheckMessage] = []
    for backend, options in backends.items():
        named = f"INSTALLED_BACKENDS has a backend {shown(backend)}"
        if not isinstance(options, Mapping):
            found.append(_ill_formed(f"{named} that is a {type(options).__name__}."))
        elif not isinstance(backend, str):
            found.append(_ill_formed(f"{named}, whose name is a {type(backend).__name__}."))
        elif keys := [key for key in options if not isinstance(key, str)]:
            found.append(
                _ill_formed(f"{named} with {shown(keys[0])} among the names of its options.")
            )
        else:
            found += _check_backend(backend, options)
    return found


def _ill_formed(problem: str) -> CheckMessage:
    return Error(
        problem,
        hint="Write INSTALLED_BACKENDS as {'name': {'ENGINE': 'dotted.path.to.Backend', ...}}.",
        id=ID + "E013",
    )


def _check_backend(backend: str, options: Mapping[str, Any]) -> Iterator[CheckMessage]:
    lower = {key.lower(): value for key, value in options.items()}
    yield from _check_engine(backend, lower.get("engine"))
    engine = lower.get("engine")
    how = ONE_RECIPIENT.get(engine) if isinstance(engine, str) else None
    if how and _several_in_a_call(lower):
        yield Warning(
            f"Backend {backend!r} has an engine that {how}. With several recipients in a call some"
            " would be sent a message twice, or shown as Sent without it.",
            hint="Set its 'router.db.batch_size' to 1.",
            id=ID + "W016",
        )
    if conf.is_rapidsms_kannel(backend):
        yield from _check_kannel(backend, lower)
    # this app's engines check their own options
    check = getattr(conf.engine_class(backend), "check_options", None)
    if check is not None:
        yield from check(backend, lower)
    for key, value in options.items():  # a key that is there in several spellings, too
        name = key.lower()
        if not name.startswith("router.db."):
            continue
        if name not in BACKEND_OPTIONS:
            yield Error(
                f"Backend {backend!r} sets {name!r}, which is no option of the router.",
                hint=_nearest(name, BACKEND_OPTIONS),
                id=ID + "E011",
            )
        elif not BACKEND_OPTIONS[name][0](value):
            kind = BACKEND_OPTIONS[name][1]
            yield Error(
                f"Backend {backend!r} sets {name!r} to {shown(value)}, which is not {kind}.",
                hint=f"Set it to {kind}, or remove it.",
                id=ID + "E012",
            )


def _check_kannel(backend: str, options: Mapping[str, Any]) -> Iterator[CheckMessage]:
    """Say what is wrong with RapidSMS's engine for Kannel."""
    if _several_in_a_call(options):
        yield Warning(
            f"Backend {backend!r} gives Kannel several recipients in one call. Kannel gives"
            " all their messages one id: if it is killed, all but the first are lost, and"
            " reports may be taken for each other's.",
            hint="Set its 'router.db.batch_size' to 1.",
            id=ID + "W013",
        )
    yield Warning(
        f"Backend {backend!r} has the engine {options['engine']!r}, which changes texts: it drops"
        " letters, or replaces them by '?', or sends plain texts in more SMS than they need.",
        hint=f"Set its ENGINE to {OUR_KANNEL_ENGINE!r}.",
        id=ID + "W014",
    )


def _several_in_a_call(options: Mapping[str, Any]) -> bool:
    default = getattr(settings, "DB_ROUTER_DEFAULT_BATCH_SIZE", None)
    return bool(options.get("router.db.batch_size", default) != 1)


def _check_engine(backend: str, engine: Any) -> Iterator[CheckMessage]:
    problem = ""
    if engine is None:
        problem = "without an ENGINE"
    elif not isinstance(engine, str):
        if not (isinstance(engine, type) and issubclass(engine, BackendBase)):
            problem = f"whose ENGINE {shown(engine)} is no dotted path, and no backend's class"
    else:
        try:
            BackendBase.find(engine)
        except Exception as err:  # in strangers' modules
            problem = f"whose ENGINE {engine!r} cannot be imported: {err}"
    if problem:
        yield Error(
            f"INSTALLED_BACKENDS has a backend {backend!r} {problem}.",
            hint="Set ENGINE to the dotted path of a subclass of"
            " rapidsms.backends.base.BackendBase.",
            id=ID + "E010",
        )


def _nearest(name: str, known: dict[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0)
    return f"Did you mean {close[0]!r}? Known are {', '.join(known)}."
