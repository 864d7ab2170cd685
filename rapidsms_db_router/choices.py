"""The letters stored in the database: RapidSMS's own, each with one meaning."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_noop as _


class Direction(models.TextChoices):
    """Which way a message goes: I, to the apps; O, to a backend."""

    INCOMING = "I", "Incoming"
    OUTGOING = "O", "Outgoing"


class Status(models.TextChoices):
    """How far a message or a transmission has come.

    ============ ======================== ========================== =============================
    status       inbound                  outbound transmission      outbound message
    ============ ======================== ========================== =============================
    Q Queued     stored, not yet          stored, not yet handed to  stored, no worker knows of it
                 processed                the gateway                yet
    P Processing                          being handed to the        under way: some are neither
                                          gateway now: in flight     sent, delivered nor errored
    R Received   apps have run, replies
                 are stored
    S Sent                                the gateway accepted it    all sent or delivered, at
                                                                     least one not delivered
    D Delivered                           a delivery report said so  all delivered
    E Errored    an app raised; the error the last try failed; the   at least one errored
                 is stored                date of the next try says
                                          whether one follows
    ============ ======================== ========================== =============================
    """

    QUEUED = "Q", "Queued"
    RECEIVED = "R", "Received"
    PROCESSING = "P", "Processing"
    SENT = "S", "Sent"
    DELIVERED = "D", "Delivered"
    ERRORED = "E", "Errored"


#: E in words: another try follows, or none does. The stored letter is the same.
RETRYING, FAILED = _("Retrying"), _("Failed")
#: The other statuses in words. Whoever shows a word translates it.
WORDS = {
    Status.QUEUED: _("Waiting"),
    Status.RECEIVED: _("Received"),
    Status.PROCESSING: _("In flight"),
    Status.SENT: _("Sent"),
    Status.DELIVERED: _("Delivered"),
}
#: P of a message: some of its transmissions are in flight, or wait.
UNDER_WAY = _("Under way")


def in_words(status: str, *, retrying: bool) -> str:
    """Return a status of a transmission in words.

    :param retrying: whether another try follows if it is E.
    """
    if status == Status.ERRORED:
        return RETRYING if retrying else FAILED
    return WORDS[Status(status)]


class Outcome(models.TextChoices):
    """What a gateway reports of one recipient.

    ========= ====================================================================
    delivered the phone has it
    failed    the phone will not get it: switched off too long, an unknown number
    rejected  the network, or the gateway, did not take it
    accepted  the network took it; it may be delivered
    buffered  the network keeps it until the phone is there
    ========= ====================================================================
    """

    DELIVERED = "delivered"
    FAILED = "failed"
    REJECTED = "rejected"
    ACCEPTED = "accepted"
    BUFFERED = "buffered"
