"""RapidSMS's own tests of its router pass with the dotted path replaced."""

from __future__ import annotations

from pathlib import Path

import pytest
import rapidsms
from django.db import connection

TESTS = Path(rapidsms.__file__).parent / "router" / "db" / "tests.py"
#: This test wants a reply to a text that no handler knows.
WANTS_DEFAULT = "test_in_response_to_external_id"
#: These tests use LIMIT in a subquery themselves, which MariaDB does not have.
LIMITS = {
    "test_all_transmissions_set_to_E_if_backend_sending_error",
    "test_group_transmissions",
    "test_only_failed_transmissions_set_to_E",
    "test_send_doesnt_send_already_sent_transmissions",
    "test_send_successful_message_status",
    "test_send_successful_message_status_previous_error",
    "test_send_successful_status",
}


@pytest.fixture(autouse=True)
def _project(request, settings):
    name = request.node.name
    if connection.vendor == "mysql" and name in LIMITS:
        pytest.skip("the test itself uses LIMIT in a subquery")
    if name == WANTS_DEFAULT:
        settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "rapidsms.contrib.default"]
        settings.DEFAULT_RESPONSE = "What was that?"


# read where RapidSMS has them: nothing of them is copied
exec(compile(TESTS.read_text().replace("rapidsms.router.db", "rapidsms_db_router"), TESTS, "exec"))
