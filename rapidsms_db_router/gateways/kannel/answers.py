"""What Kannel's smsbox answers to a request for an SMS, and whom that concerns.

====== =================================== ==================================================
status text                                what follows
====== =================================== ==================================================
202    ``0: Accepted for delivery``,       sent
       ``3: Queued for later delivery``,
       and any other
200    ``0:``, ``3:`` or ``Sent``          sent
200    any other                           not Kannel's answer: the outcome is unknown
3xx    any                                 an outage: the URL is wrong
400    ``denied by white- and/or           the recipient is given up
       black-lists``, ``receiver``
400    any other                           an outage: a parameter of ours is wrong
403    ``Authorization failed``            an outage: user name, password or address
403    any other, ``Not routable``         an outage when it meets several recipients in a row;
                                           else the recipient is tried again
404    any                                 an outage: the URL is wrong
500    any                                 an outage: bearerbox is away
503    ``Temporal failure``                an outage: the queue is full, or bearerbox stops
others any                                 as for every backend
====== =================================== ==================================================

An outage counts no try: the messages wait until the gateway works again.
"""

from __future__ import annotations

from rapidsms_db_router.errors import (
    MessageSendingError,
    OutcomeUnknown,
    PermanentSendingError,
    RetryLater,
)

#: How the text of an answer with status 200 begins, if it is Kannel's.
ACCEPTED = ("0:", "3:", "Sent")
#: What the text of an answer with status 400 has in it, if the recipient is the reason.
RECIPIENT = ("black-list", "receiver number")
#: More of an answer than this says nothing more.
LONGEST_TEXT = 200


class KannelError(MessageSendingError):
    """Kannel refused a message.

    :param status: the HTTP status of its answer.
    :param text: what it answered.
    """

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        super().__init__(f"Kannel answered {status}: {text}")


class KannelOutage(KannelError, RetryLater):
    """Kannel refuses every message now, whoever is the recipient."""


class AuthorizationFailed(KannelOutage):
    """Kannel does not know the user name, the password or the address of this machine."""


class WrongUrl(KannelOutage):
    """There is no Kannel at ``sendsms_url``."""


class WrongParameter(KannelOutage):
    """Kannel refuses a parameter that does not depend on the recipient."""


class NotRoutable(KannelError):
    """No message centre of Kannel's takes the message: for this recipient, or for nobody."""


class TemporalFailure(KannelError):
    """Kannel's queue is full, or bearerbox stops."""


def read(status: int, body: bytes) -> None:
    """Read one answer; return if Kannel took the message.

    :raises MessageSendingError: of a class that says whom the refusal concerns.
    """
    if status == 202:
        return
    text = body[:LONGEST_TEXT].decode("utf-8", "replace").strip()
    if status == 200:
        if text.startswith(ACCEPTED):
            return
        raise OutcomeUnknown("The answer has status 200, and a text that is not Kannel's.")
    if status < 400 or status == 404:
        raise WrongUrl(status, text)
    if status == 400:
        if any(word in text for word in RECIPIENT):
            raise PermanentSendingError(f"Kannel answered 400: {text}")
        raise WrongParameter(status, text)
    if status == 403:
        raise (AuthorizationFailed if "Authorization" in text else NotRoutable)(status, text)
    if status == 503:
        raise TemporalFailure(status, text)
    raise KannelError(status, text)
