"""The app of the tests: the first word of a text says what becomes of it."""

from __future__ import annotations

from typing import Any

from django.db import connection
from rapidsms.apps.base import AppBase
from rapidsms.models import Connection

#: The inbound message objects that came to the app in this process.
received: list[Any] = []


class ServiceApp(AppBase):
    """Answers, filters, raises or cancels.

    Inbound: ``ping`` is answered, ``twice`` answered twice, ``unknown`` answered with an error
    message, ``everyone`` passed on to all other connections of the backend, ``spam`` filtered.
    ``raise`` raises after it has answered, ``dberror`` has the database raise.

    Outbound: ``cancel`` is cancelled; ``raise`` and ``dberror`` raise as above, but go out.
    """

    def filter(self, msg: Any) -> bool:
        """Filter spam."""
        received.append(msg)
        return _first_word(msg) == "spam"

    def handle(self, msg: Any) -> bool:
        """Do what the first word says."""
        word = _first_word(msg)
        if word == "ping":
            msg.respond(msg.text.replace("ping", "pong", 1))
        elif word == "twice":
            msg.respond("one")
            msg.respond("two")
        elif word == "unknown":
            msg.error("What was that?")
        elif word == "everyone":
            sender = msg.connections[0]
            others = Connection.objects.filter(backend=sender.backend).exclude(pk=sender.pk)
            msg.respond(msg.text, connections=others)
        elif word in ("raise", "dberror"):
            msg.respond("never stored")
            _fail(msg)
        else:
            return False
        return True

    def outgoing(self, msg: Any) -> bool:
        """Do what the first word says."""
        _fail(msg)
        return _first_word(msg) != "cancel"


def _first_word(msg: Any) -> str:
    return msg.text.partition(" ")[0]


def _fail(msg: Any) -> None:
    word = _first_word(msg)
    if word == "raise":
        raise RuntimeError(f"cannot do {msg.text!r} for {msg.connections[0].identity}")
    if word == "dberror":
        with connection.cursor() as cursor:
            cursor.execute("SELECT nothing FROM no_such_table")
