"""Whatever the arguments of a command are, it does its work or names what makes no sense."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from hypothesis import given
from hypothesis import strategies as st
from rapidsms.models import Connection

from rapidsms_db_router.models import Message, Transmission

pytestmark = pytest.mark.django_db

WORDS = st.text() | st.text(st.characters(), max_size=5) | st.from_regex(r"[0-9:TZ+.-]{0,25}")
DATES = st.datetimes() | st.datetimes(timezones=st.timezones()) | st.dates()
NUMBERS = st.integers() | st.integers(0, 10) | st.floats()
ANYTHING = WORDS | NUMBERS | DATES.map(str) | DATES | st.booleans() | st.none()
SEVERAL = ANYTHING | st.lists(ANYTHING, max_size=3)
#: How the text on the terminal names an option.
OPTIONS = {
    "backend": SEVERAL,
    "message": SEVERAL,
    "since": ANYTHING,
    "until": ANYTHING,
    "error": ANYTHING,
}


def outcome(name: str, *arguments: str, **options: Any) -> str:
    """Run a command; return what it said."""
    out = StringIO()
    try:
        call_command(name, *arguments, stdout=out, **options)
    except CommandError as err:
        assert str(err)
        return str(err)
    return out.getvalue()


@pytest.fixture
def errored(person: Connection) -> Transmission:
    """One errored transmission."""
    message = Message.objects.create(direction="O", text="news", status="E")
    row: Transmission = message.transmissions.create(connection=person, status="E", error="refused")
    return row


@pytest.mark.parametrize("name", ["resend_messages", "reprocess_messages"])
@given(options=st.fixed_dictionaries({}, optional=OPTIONS), dry_run=st.booleans())
def test_options_that_code_gives(
    errored: Transmission, name: str, options: dict[str, Any], dry_run: bool
) -> None:
    assert outcome(name, dry_run=dry_run, **options)


@given(option=st.sampled_from(sorted(OPTIONS)), value=st.text())
def test_words_that_a_shell_gives(errored: Transmission, option: str, value: str) -> None:
    said = outcome("resend_messages", f"--{option}={value}", "--dry-run")
    assert said.startswith(("0 ", "1 ")) or repr(value) in said or "filter" in said


@given(
    names=st.lists(ANYTHING, min_size=1, max_size=3), option=st.sampled_from(["pause", "resume"])
)
def test_names_of_backends(errored: Transmission, names: list[Any], option: str) -> None:
    assert repr(names[0]) in outcome("backends", **{option: names})
