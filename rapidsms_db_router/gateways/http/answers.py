"""What a gateway answers, read as the backend's options say.

========================================= ========================================================
answer                                    what follows
========================================= ========================================================
``"permanent"`` fits                      the recipient is given up
``"later"`` fits                          an outage: no try counts
HTTP status from 400 on, or from 300 on   as for every backend, by the status
no JSON, where the options look into it   the outcome is unknown
``"success"`` fits                        sent; ``"id"`` is kept
``"success"`` does not fit                the recipient is tried again
``"success"`` is not set                  sent, if what ``"id"`` names is there
what ``"success"`` names is not there,    the outcome is unknown
or ``"id"`` where that is all there is
a recipient is not in the list that       the outcome is unknown for this recipient
``"recipients"`` names
========================================= ========================================================

The first row that fits holds. ``Retry-After`` counts with each of them that is an outage. Where a
path has ``[]``, each item has to fit ``"success"``, and one that fits is enough for ``"permanent"``
and ``"later"``: a text of several parts is sent if each of them is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from rapidsms_db_router.db.text import as_id
from rapidsms_db_router.errors import (
    MessageSendingError,
    OutcomeUnknown,
    PermanentSendingError,
    RetryLater,
)
from rapidsms_db_router.gateways.connections import Answer
from rapidsms_db_router.gateways.http.paths import (
    MISSING,
    dig,
    find,
    is_one_of,
    items,
    plain,
    shown,
)
from rapidsms_db_router.identities import digits

Mappings = Mapping[str, Any]


class HttpError(MessageSendingError):
    """The gateway answered with a status of HTTP that is no success.

    :param status: the status.
    :param retry_after: the value of its ``Retry-After``, if there is one.
    """

    def __init__(self, status: int, retry_after: str | None = None) -> None:
        # a redirection is followed nowhere: the URL is wrong
        self.status = status if status >= 400 else 404
        self.retry_after = retry_after
        super().__init__(f"The gateway answered with HTTP status {status}.")


class GatewayRefused(MessageSendingError):
    """The gateway answered that it did not take the message."""


def read(answer: Answer, options: Mappings, identities: list[str]) -> dict[str, Any] | None:
    """Return what an answer says of each recipient.

    :param options: the backend's options.
    :param identities: whom the call was for.
    :returns: by identity the gateway's id, ``None`` or an exception; ``None``: all were taken.
    :raises MessageSendingError: if the call failed as a whole.
    """
    retry_after = answer.headers.get("Retry-After")
    if not 200 <= answer.status < 300:
        if options.get("permanent") or options.get("later"):
            with suppress(OutcomeUnknown):  # no JSON: then the status alone speaks
                _refuse(_json(answer), options, retry_after)
        raise HttpError(answer.status, retry_after)
    if not any(options.get(name) for name in ("success", "later", "permanent", "id", "recipients")):
        return None
    said = _json(answer)
    if not options.get("recipients"):
        return dict.fromkeys(identities, _one(said, options, retry_after))
    several = items(said, options["recipients"])
    if not several:
        # what is said in place of the recipients concerns them all
        _refuse(said, options, retry_after)
        raise OutcomeUnknown(f"The answer has no list {options['recipients']!r}, or an empty one.")
    return _each(several, options, identities, retry_after)


def _each(
    several: list[Any], options: Mappings, identities: list[str], retry_after: str | None
) -> dict[str, Any]:
    named: dict[str, list[str]] = {}
    for identity in identities:
        named.setdefault(digits(identity) or identity, []).append(identity)
    found: dict[str, Any] = {}
    for item in several:
        number = plain(dig(item, options["number"]))
        for identity in named.get(digits(number) or number, ()):
            # of a recipient that is named twice a failure counts
            if not isinstance(found.get(identity), Exception):
                found[identity] = _said_of(item, options, retry_after)
    for identity in identities:
        if identity not in found:
            found[identity] = OutcomeUnknown("The answer does not name the recipient.")
    return found


def _said_of(item: Any, options: Mappings, retry_after: str | None) -> Any:
    try:
        return _one(item, options, retry_after)
    except MessageSendingError as exc:
        return exc


def _one(said: Any, options: Mappings, retry_after: str | None) -> Any:
    """Return the gateway's id of what it took, or the ids of its parts.

    :raises MessageSendingError: if it did not take it.
    """
    _refuse(said, options, retry_after)
    success = options.get("success") or {}
    for path, values in success.items():
        for value in find(said, path):
            if value is MISSING:
                raise OutcomeUnknown(f"The answer has no {path!r}.")
            if not is_one_of(value, values):
                raise GatewayRefused(_refusal(path, value))
    if not options.get("id"):
        return None
    ids = [each for each in map(plain, find(said, options["id"])) if as_id(each)]
    if not ids and not success:
        raise OutcomeUnknown(f"The answer has no {options['id']!r}.")
    if len(ids) > 1:
        return ids
    return ids[0] if ids else None


def _refuse(said: Any, options: Mappings, retry_after: str | None) -> None:
    """Raise, if one of the values is there by which a gateway says that it did not take it.

    :raises PermanentSendingError: for a value of ``"permanent"``.
    :raises RetryLater: for a value of ``"later"``.
    """
    for name in ("permanent", "later"):
        for path, values in (options.get(name) or {}).items():
            for value in find(said, path):
                if value is MISSING or not is_one_of(value, values):
                    continue
                if name == "permanent":
                    raise PermanentSendingError(_refusal(path, value))
                # whatever it says, the router reads it
                raise RetryLater(_refusal(path, value), retry_after or 0)  # type: ignore[arg-type]


def _refusal(path: str, value: Any) -> str:
    return f"The gateway answered {path}={shown(value)}."


def _json(answer: Answer) -> Any:
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        raise OutcomeUnknown("The answer is no JSON.") from None
