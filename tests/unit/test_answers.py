"""What a backend's answer says of each recipient."""

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
import requests
from rapidsms.errors import MessageSendingError

from rapidsms_db_router import answers
from rapidsms_db_router.errors import BackendNotConfigured, PermanentSendingError, RetryLater
from rapidsms_db_router.querysets import Taken

ROWS = [Taken(pk, f"+{pk}", 1) for pk in (1, 2, 3)]


def http_error(status, **headers):
    response = requests.Response()
    response.status_code = status
    response.headers.update(headers)
    return requests.HTTPError(f"{status}", response=response)


def said(returned=None, raised=None, rows=ROWS):
    answer = answers.read(rows, returned, raised)
    return (
        [row.id for row in answer.sent],
        [failure.row.id for failure in answer.failed if not failure.permanent],
        [failure.row.id for failure in answer.failed if failure.permanent],
    )


@pytest.mark.parametrize("returned", [None, True, {}, "sent", ["+1"], {"+9": "x"}])
def test_who_raises_nothing_has_sent_all(returned):
    assert said(returned) == ([1, 2, 3], [], [])


def test_ids_are_kept_by_primary_key():
    answer = answers.read(ROWS, {"+1": "a", "+2": 17, "+3": None}, None)
    assert answer.external_ids == {1: "a", 2: "17"}
    assert len(answer.sent) == 3


def test_an_exception_beside_an_identity_is_about_that_one():
    returned = {"+1": "a", "+2": PermanentSendingError("no such number"), "+3": OSError("busy")}
    assert said(returned) == ([1], [3], [2])


def test_who_is_not_named_was_sent_the_message():
    error = MessageSendingError("refused", failed_identities=["+2"])
    assert said(raised=error) == ([1, 3], [2], [])
    error = PermanentSendingError("refused", failed_identities=["+2"])
    assert said(raised=error) == ([1, 3], [], [2])


def test_one_who_is_named_as_a_string_is_one():
    assert said(raised=MessageSendingError("no", failed_identities="+3")) == ([1, 2], [3], [])


@pytest.mark.parametrize(
    ("error", "permanent"),
    [
        (MessageSendingError("no"), False),
        (OSError("no"), False),
        (requests.ConnectionError("no"), False),
        (requests.Timeout("no"), False),
        (RetryLater("no", 5), False),
        (PermanentSendingError("no"), True),
        (BackendNotConfigured("no"), True),
        *((http_error(status), True) for status in (400, 401, 403, 404, 410, 422, 499)),
        *((http_error(status), False) for status in (408, 429, 500, 502, 503, 504, 302)),
    ],
)
def test_what_is_permanent(error, permanent):
    everyone = [1, 2, 3]
    expected = ([], [], everyone) if permanent else ([], everyone, [])
    assert said(raised=error) == expected
    # as the router passes it on
    wrapped = MessageSendingError("raised")
    wrapped.__cause__ = error
    assert said(raised=wrapped) == expected


def test_a_wrapped_error_is_told_of_itself():
    wrapped = MessageSendingError("raised")
    wrapped.__cause__ = OSError("the reason")
    assert str(answers.read(ROWS, None, wrapped).failed[0].error) == "the reason"


@pytest.mark.parametrize(
    ("error", "blames"),
    [
        (http_error(400), True),
        (http_error(422), True),
        (http_error(401), False),
        (http_error(500), False),
        (OSError("no"), False),
    ],
)
def test_a_bad_request_for_several_may_be_the_fault_of_one(error, blames):
    assert answers.read(ROWS, None, error).blames_nobody is blames
    assert not answers.read(ROWS[:1], None, error).blames_nobody


def test_a_gateway_is_out_of_order_if_it_takes_nothing_and_gives_no_lasting_reason():
    assert answers.read(ROWS, None, OSError("no")).out_of_order
    assert answers.read(ROWS, None, http_error(503)).out_of_order
    assert not answers.read(ROWS, None, http_error(400)).out_of_order
    for named in (["+1"], ["+1", "+2", "+3"]):  # it has answered, and said who
        assert not answers.read(ROWS, None, MessageSendingError("x", named)).out_of_order
    assert not answers.read(ROWS, {row.identity: OSError() for row in ROWS}, None).out_of_order
    assert not answers.read(ROWS, None, None).out_of_order
    assert not answers.Answer().out_of_order


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (OSError("no"), None),
        (RetryLater("no", 30), 30),
        (http_error(429, **{"Retry-After": "120"}), 120),
        (http_error(503, **{"retry-after": "1.5"}), 1.5),
        (http_error(503, **{"Retry-After": "soon"}), None),
        (http_error(503, **{"Retry-After": "nan"}), None),
        (http_error(503, **{"Retry-After": "-5"}), 0),
        (http_error(503, **{"Retry-After": "9999999"}), answers.LONGEST_WISH),
        (http_error(503), None),
    ],
)
def test_for_how_long_a_gateway_wants_to_be_left_alone(error, seconds):
    assert answers.retry_after(error) == seconds


def test_the_wish_may_be_a_date():
    date = datetime.now(timezone.utc) + timedelta(seconds=90)
    error = http_error(429, **{"Retry-After": format_datetime(date, usegmt=True)})
    assert answers.retry_after(error) == pytest.approx(90, abs=3)
    past = format_datetime(date - timedelta(days=1))
    assert answers.retry_after(http_error(429, **{"Retry-After": past})) == 0
