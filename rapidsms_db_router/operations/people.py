"""Finding people by what an operator types."""

from __future__ import annotations

from django.db.models import Q
from rapidsms.models import Backend, Connection

from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.models import FormerConnection

#: Digits by which a number can be looked for.
FEWEST = 4
#: Connections that a search looks at.
MOST = 200


def is_number(term: str) -> bool:
    """Return whether what an operator looks for can be a number, or the last digits of one."""
    return len(_digits(term)) >= FEWEST and not any(map(str.isalpha, term))


def with_number(term: str) -> list[int]:
    """Return the connections with a number, else those whose numbers end with it.

    :param term: a number in any notation, or its last digits.
    :returns: primary keys; of a number also those that were deleted.
    """
    digits, rows = _digits(term), Connection.objects.using(alias())
    # with their backends: the only index of numbers begins with the backend
    backends = list(Backend.objects.using(alias()).values_list("pk", flat=True))
    named = {"identity__in": {term, digits, f"+{digits}"}}
    exact = rows.filter(backend__in=backends, **named)
    found = list(exact.values_list("pk", flat=True)[:MOST])
    former = FormerConnection.objects.filter(**named)
    if found := found + list(former.values_list("pk", flat=True)[:MOST]):
        return found
    # as a national number, or its last digits
    return _first(Q(identity__endswith=digits.lstrip("0") or digits))


def with_name(term: str) -> list[int]:
    """Return the connections of contacts with a name, or a part of it: primary keys."""
    return _first(Q(contact__name__icontains=term))


def _digits(term: str) -> str:
    return "".join(filter(str.isdigit, term))


def _first(condition: Q) -> list[int]:
    rows = Connection.objects.using(alias()).filter(condition).order_by("pk")
    return list(rows.values_list("pk", flat=True)[:MOST])
