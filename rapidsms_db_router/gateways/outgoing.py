"""What the backends of this app share: telephone numbers, URLs of servers and time-outs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from rapidsms_db_router import conf

#: What is a telephone number: SMPP has room for 20 digits. A separator would reach other people.
NUMBER = re.compile(r"\+?[0-9]{1,20}")
NOT_A_NUMBER = (
    "The identity is no telephone number: 1 to 20 digits, with or without a + before them, and"
    " nothing else."
)
#: What RapidSMS's column holds of a number.
LONGEST_IDENTITY = 100
#: How much of "router.db.timeout" may pass until there is a connection, and then until there is an
#: answer: less than all of it together.
CONNECT, READ = 0.2, 0.7
LONGEST_CONNECT = 10.0


def timeouts(options: Mapping[str, Any]) -> tuple[float, float]:
    """Return the time-outs of connecting and of reading, in seconds.

    :param options: the backend's options, with keys in lower case.
    """
    timeout = float(options.get("router.db.timeout", conf.TIMEOUT))
    return min(timeout * CONNECT, LONGEST_CONNECT), timeout * READ


def is_url(value: Any) -> bool:
    """Return whether a value is the URL of a server: by HTTP, without a password."""
    if not isinstance(value, str) or not (value.isascii() and value.isprintable()):
        return False
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return False
    is_http = parts.scheme in ("http", "https") and bool(parts.hostname)
    return is_http and port != 0 and parts.username is None and " " not in value
