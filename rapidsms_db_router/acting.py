"""Telling what a person has done, in the transaction that does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import models, transaction
from django.dispatch import Signal

from rapidsms_db_router import signals
from rapidsms_db_router.db.connection import alias


def acted(
    kind: str,
    by: str,
    subject: models.Model | None = None,
    *,
    count: int | None = None,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    reason: str = "",
) -> None:
    """Send ``operator_acted``; what a receiver writes is stored together with the action.

    :param kind: what was done; see :mod:`rapidsms_db_router.signals`.
    :param by: a user's name, or that of a command with the name of the system's user.
    :param subject: the row that it was done to.
    :param count: to how many transmissions, messages or people, if that is known.
    :param before: what the action has changed, as it was.
    :param after: the same, as it is now.
    :param reason: why, in the person's words.
    :raises django.db.Error: if a receiver has left the transaction unusable.
    """
    _tell(
        signals.operator_acted,
        sender=None if subject is None else type(subject),
        kind=kind,
        by=by,
        subject=subject,
        count=count,
        before=dict(before or {}),
        after=dict(after or {}),
        reason=reason,
    )


def goes_on(action: models.Model) -> None:
    """Send ``bulk_action_goes_on`` before a chunk is done that is not the first; see :func:`acted`.

    :param action: a bulk action.
    :raises django.db.Error: if a receiver has left the transaction unusable.
    """
    _tell(signals.bulk_action_goes_on, sender=type(action), action=action)


def _tell(signal: Signal, **named: Any) -> None:
    if not signal.has_listeners():
        return
    # a savepoint: an error of the database in a receiver may not undo the action unnoticed
    with transaction.atomic(using=alias()):
        signals.tell(signal, **named)
