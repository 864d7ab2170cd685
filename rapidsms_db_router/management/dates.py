"""Dates that the arguments of commands give."""

from __future__ import annotations

import datetime
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime


def of_option(name: str, value: Any) -> datetime.datetime:
    """Return the date that an option gives, in ISO 8601; aware or naive as ``USE_TZ`` has it.

    :param name: of the option.
    :raises CommandError: for what is no date.
    """
    try:
        moment = value if isinstance(value, datetime.datetime) else _parsed(str(value))
        aware = timezone.make_aware(moment) if timezone.is_naive(moment) else moment
        # to UTC, as databases want it: a date may be too early or too late for that
        aware = aware.astimezone(datetime.timezone.utc)
        return aware if settings.USE_TZ else timezone.make_naive(aware)
    except (ValueError, OverflowError):
        raise CommandError(
            f"--{name} {value!r} is no date; give one such as 2026-07-31 or 2026-07-31T18:00."
        ) from None


def _parsed(said: str) -> datetime.datetime:
    moment = parse_datetime(said)
    if moment is None and (day := parse_date(said)) is not None:
        moment = datetime.datetime(day.year, day.month, day.day)
    if moment is None:
        raise ValueError
    return moment
