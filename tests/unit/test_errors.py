"""Each exception is what a caller would expect to catch."""

import pytest
from rapidsms.errors import MessageSendingError

from rapidsms_db_router import errors


@pytest.mark.parametrize(
    ("error", "parents"),
    [
        (errors.InvalidConnection, (ValueError,)),
        (errors.NoRecipients, (MessageSendingError, ValueError)),
        (errors.PermanentSendingError, (MessageSendingError,)),
        (errors.RetryLater, (MessageSendingError,)),
        (errors.OutcomeUnknown, (MessageSendingError,)),
        (errors.BackendNotConfigured, (errors.PermanentSendingError, LookupError)),
        (errors.TransmissionsFailed, (MessageSendingError,)),
    ],
)
def test_error_is_of_every_kind_a_caller_would_catch(error, parents):
    for parent in parents:
        assert issubclass(error, parent)


def test_a_caller_that_only_catches_sending_errors_is_not_told_of_its_own_mistakes():
    assert not issubclass(errors.InvalidConnection, MessageSendingError)


def test_sending_errors_carry_failed_identities():
    assert errors.TransmissionsFailed("text", failed_identities=["1"]).failed_identities == ["1"]


def test_all_names_every_exception():
    public = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert public == set(errors.__all__)
