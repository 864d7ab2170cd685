"""Every page of operators, by its URL pattern, with arguments that it has a page for."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from django.test import Client
from django.urls import reverse

from rapidsms_db_router.operations.urls import urlpatterns
from rapidsms_db_router.operations.waiting import WHYS

#: What a page is asked for beside its plain self, by the name of its URL pattern.
QUERIES: dict[str, tuple[dict[str, str], ...]] = {
    "router-messages": (
        {"before": "{middle}"},
        {"backend": "gateway"},
        {"direction": "I"},
        {"state": "failed"},
        {"state": "processing"},
        {"direction": "I", "state": "failed"},
        {"search": "+254000001000"},
        {"search": "254 000 001 000"},
        {"search": "0000001000"},
        {"search": "1000"},
        {"search": "erson 000001000"},
        {"search": "gw000001001"},
        {"search": "reply"},
        {"search": "nobody has written this"},
    ),
    "router-conversation": ({"before": "{middle}"},),
    "router-failures": ({"hours": "720"},),
}
#: By the name of an argument the values that are tried; a primary key comes from the caller.
VALUES: dict[str, Sequence[Any]] = {"why": WHYS, "format": ("csv", "jsonl")}


def urls(client: Client, keys: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """Return a URL of each page that answers 200.

    :param client: a browser of a user who may do everything.
    :param keys: primary keys to be tried, by the name of the argument.
    :returns: by the name of the URL pattern.
    :raises AssertionError: if a page has none: its arguments are to be added here.
    """
    found: dict[str, str] = {}
    for pattern in urlpatterns:
        values = {**VALUES, **keys}
        names = list(pattern.pattern.converters) or list(pattern.pattern.regex.groupindex)
        unknown = [name for name in names if name not in values]
        assert not unknown, f"{pattern.name}: tests/pages.py has no values of {unknown}"
        for arguments in itertools.product(*(values[name] for name in names)):
            kwargs = dict(zip(names, arguments, strict=True))
            url = reverse(pattern.name, kwargs=kwargs)
            if client.get(url).status_code == 200:
                found[pattern.name] = url
                break
        assert pattern.name in found, f"{pattern.name}: tests/pages.py has no page of it"
    return found
