"""RapidSMS's message objects, and what of them a row keeps."""

from __future__ import annotations

import datetime
import logging
from typing import Any

from django.conf import settings
from django.utils import timezone
from django.utils.module_loading import import_string
from rapidsms.messages.base import MessageBase
from rapidsms.messages.incoming import IncomingMessage
from rapidsms.messages.outgoing import OutgoingMessage
from rapidsms.models import Connection

from rapidsms_db_router.choices import Direction
from rapidsms_db_router.db.text import shown
from rapidsms_db_router.models import Message, Transmission
from rapidsms_db_router.models.transmission import CONNECTED

logger = logging.getLogger(__name__)

USUAL_CLASS: dict[str, type[MessageBase]] = {
    Direction.INCOMING: IncomingMessage,
    Direction.OUTGOING: OutgoingMessage,
}


def columns_of(direction: Direction, msg: Any) -> dict[str, Any]:
    """Return what a message object knows beyond its text, connections and fields, by column."""
    columns: dict[str, Any] = {}
    original = msg.in_response_to
    answered = getattr(original, "dbm", None) or getattr(original, "database_message", None)
    if answered is not None:
        columns["in_response_to"] = answered
    if type(msg) is not USUAL_CLASS[direction]:
        columns["message_class"] = _importable_path(type(msg))
    return columns


def connections_of(message: Message) -> list[Connection]:
    """Return the connections of a message, in the order of its transmissions."""
    if "transmissions" in getattr(message, "_prefetched_objects_cache", {}):
        return [row.connection for row in message.transmissions.all() if row.connection]
    rows = Transmission.objects.filter(CONNECTED, message=message).order_by("pk")
    return [
        row.connection for row in rows.select_related("connection__backend", "connection__contact")
    ]


def class_of(message: Message) -> type[MessageBase]:
    """Return the class of a message's object: the one it was made with, if that is still there.

    What a row names is only used if it is a message class of RapidSMS's or derived from one.
    """
    usual = USUAL_CLASS[Direction(message.direction)]
    if not message.message_class:
        return usual
    try:
        found = import_string(message.message_class)
    except Exception:  # its module may raise anything
        found = None
    if isinstance(found, type) and issubclass(found, MessageBase):
        return found
    # the path may be anybody's words
    logger.warning("message_class_refused message=%s", message.pk)
    logger.debug("message_class_refused message=%s class=%s", message.pk, message.message_class)
    return usual


def check_moment(name: str, moment: Any) -> None:
    """Check a date that a caller gives.

    :raises ValueError: for what is no datetime, or not as ``USE_TZ`` wants it.
    """
    if moment is None:
        return
    if not isinstance(moment, datetime.datetime):
        raise ValueError(f"{name} is {shown(moment)}, which is no datetime.")
    if timezone.is_aware(moment) != settings.USE_TZ:
        wanted = "an aware" if settings.USE_TZ else "a naive"
        raise ValueError(f"{name} is {moment!r}; USE_TZ asks for {wanted} datetime.")


def _importable_path(class_: type) -> str:
    """Return the dotted path a worker can import ``class_`` by, or an empty string."""
    path = f"{class_.__module__}.{class_.__qualname__}"
    try:
        return path if import_string(path) is class_ else ""
    except ImportError:
        return ""
