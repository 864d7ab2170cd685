"""What a gateway answers, read as the backend's options say.

========================================= ========================================================
answer                                    what follows
========================================= ========================================================
HTTP status from 400 on, or from 300 on   as for every backend, by the status; ``Retry-After`` and
                                          ``retry_after`` count
no JSON, where the options look into it   the outcome is unknown
``"later"`` fits                          an outage: no try counts
``"permanent"`` fits                      the recipient is given up
``"success"`` fits, or there is none      sent; ``"id"`` is kept
``"success"`` does not fit                the recipient is tried again
a value that ``"success"`` needs is not   the outcome is unknown
there
a recipient is not in the list that       the outcome is unknown for this recipient
``"recipients"`` names
========================================= ========================================================
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from rapidsms_db_router.errors import (
    MessageSendingError,
    OutcomeUnknown,
    PermanentSendingError,
    RetryLater,
)
from rapidsms_db_router.gateways.connections import Answer
from rapidsms_db_router.gateways.http.paths import MISSING, dig, is_one_of
from rapidsms_db_router.identities import digits

#: A value that may stand in an error: a code or a word, and no telephone number.
CODE = re.compile(r"[A-Za-z_ -]{0,32}-?[0-9]{0,5}[A-Za-z_ -]{0,32}")


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


Mappings = Mapping[str, Any]


def read(answer: Answer, options: Mappings, identities: list[str]) -> dict[str, Any] | None:
    """Return what an answer says of each recipient.

    :param options: the backend's options.
    :param identities: whom the call was for.
    :returns: by identity the gateway's id, ``None`` or an exception; ``None``: all were taken.
    :raises MessageSendingError: if the call failed as a whole.
    """
    if not 200 <= answer.status < 300:
        raise HttpError(answer.status, answer.headers.get("Retry-After"))
    if not any(options.get(name) for name in ("success", "later", "permanent", "id", "recipients")):
        return None
    said = _json(answer)
    if not options.get("recipients"):
        return dict.fromkeys(identities, _one(said, options))
    several = dig(said, options["recipients"])
    if not isinstance(several, list):
        # a refusal of the whole call has no list, but a code that the options may know
        raise OutcomeUnknown(f"The answer has no list {options['recipients']!r}.")
    return _each(several, options, identities)


def _each(several: list[Any], options: Mappings, identities: list[str]) -> dict[str, Any]:
    by_digits = {digits(identity) or identity: identity for identity in identities}
    found: dict[str, Any] = {}
    for item in several:
        number = dig(item, options["number"])
        identity = by_digits.get(digits(str(number)) or str(number))
        if identity is None:
            continue
        try:
            found[identity] = _one(item, options)
        except MessageSendingError as exc:
            found[identity] = exc
    for identity in identities:
        if identity not in found:
            found[identity] = OutcomeUnknown("The answer does not name the recipient.")
    return found


def _one(said: Any, options: Mappings) -> Any:
    """Return the gateway's id of what it took.

    :raises MessageSendingError: if it did not take it.
    """
    for name, error in (("later", RetryLater), ("permanent", PermanentSendingError)):
        for path, values in (options.get(name) or {}).items():
            value = dig(said, path)
            if value is not MISSING and is_one_of(value, values):
                raise error(_refusal(path, value))
    for path, values in (options.get("success") or {}).items():
        value = dig(said, path)
        if value is MISSING:
            raise OutcomeUnknown(f"The answer has no {path!r}.")
        if not is_one_of(value, values):
            raise GatewayRefused(_refusal(path, value))
    if not options.get("id"):
        return None
    found = dig(said, options["id"])
    return None if found is MISSING or isinstance(found, (dict, list)) else found


def _refusal(path: str, value: Any) -> str:
    shown = str(value)
    return f"The gateway answered {path}={shown if CODE.fullmatch(shown) else '(not shown)'}."


def _json(answer: Answer) -> Any:
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        raise OutcomeUnknown("The answer is no JSON.") from None
