"""What Kannel answers, and whom that concerns."""

import pytest

from rapidsms_db_router.engine import Recipient
from rapidsms_db_router.gateways.kannel import answers
from rapidsms_db_router.outbound.causes import Cause, classify
from rapidsms_db_router.outbound.response import read

ROW = Recipient(1, 1, "+256772000001", 1)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (202, b"0: Accepted for delivery"),
        (202, b"3: Queued for later delivery"),
        (202, b"Sent."),
        (202, b""),
        (202, b"\xff\xfe"),
        (200, b"0: Accepted for delivery"),
        (200, b"Sent. Message splits: 3"),
    ],
)
def test_kannel_took_it(status, body):
    answers.read(status, body)


@pytest.mark.parametrize(
    ("status", "body", "cause", "reason"),
    [
        (200, b"<html>Welcome", Cause.UNKNOWN, "OutcomeUnknown"),
        (200, b"", Cause.UNKNOWN, "OutcomeUnknown"),
        (302, b"", Cause.OUTAGE, "WrongUrl"),
        (400, b"Sender missing and no global set, rejected", Cause.OUTAGE, "WrongParameter: 400"),
        (400, b"DLR-URL field misformed, rejected", Cause.OUTAGE, "WrongParameter: 400"),
        (400, b"", Cause.OUTAGE, "WrongParameter: 400"),
        (
            400,
            b"Number(s) has/have been denied by white- and/or black-lists.",
            Cause.PERMANENT,
            "PermanentSendingError",
        ),
        (400, b"Empty receiver number not allowed, rejected", Cause.PERMANENT, None),
        (403, b"Authorization failed for sendsms", Cause.OUTAGE, "AuthorizationFailed: 403"),
        (403, b"Not routable. Do not try again.", Cause.ACCOUNT, "NotRoutable: 403"),
        (404, b"Unknown request.", Cause.OUTAGE, "WrongUrl: 404"),
        (414, b"", Cause.PERMANENT, None),
        (500, b"Sending failed.", Cause.OUTAGE, "KannelError: 500"),
        (502, b"", Cause.UNKNOWN, None),
        (503, b"Temporal failure, try again later.", Cause.OUTAGE, "TemporalFailure: 503"),
        (504, b"", Cause.UNKNOWN, None),
    ],
)
def test_kannel_did_not_take_it(status, body, cause, reason):
    with pytest.raises(Exception) as raised:
        answers.read(status, body)
    assert classify(raised.value) is cause
    if reason:
        (failure,) = read([ROW], None, raised.value).failed
        assert failure.summary.replace("HTTP ", "") == reason
    assert status == 200 or str(status) in str(raised.value)


def test_a_long_answer_is_cut():
    with pytest.raises(answers.KannelError) as raised:
        answers.read(500, b"x" * 100_000)
    assert len(str(raised.value)) < 300
