"""Numbers: finding people by what an operator types, and hiding them from others."""

from __future__ import annotations

from typing import Any

from django.db.models import Q
from rapidsms.models import Connection

from rapidsms_db_router.db.connection import alias
from rapidsms_db_router.models import FormerConnection

#: Who may see numbers and texts.
SEE = "rapidsms_db_router_operations.see_personal"
#: Digits by which a number can be looked for.
FEWEST = 4
#: Connections that a search looks at.
MOST = 200


def may_see(user: Any) -> bool:
    """Return whether a user may see numbers and texts."""
    return bool(user.has_perm(SEE))


def find(term: str) -> list[int]:
    """Return the connections of those whom an operator looks for; deleted ones, too.

    :param term: a number in any notation, its last digits, or part of a contact's name.
    :returns: primary keys, some hundreds at the most.
    """
    digits = "".join(filter(str.isdigit, term))
    names = Q(contact__name__icontains=term)
    if len(digits) >= FEWEST and not any(map(str.isalpha, term)):
        # as it was typed, then as a national number or its last digits
        named = {"identity__in": {term, digits, f"+{digits}"}}
        exact = Connection.objects.using(alias()).filter(**named)
        found = list(exact.values_list("pk", flat=True)[:MOST])
        former = FormerConnection.objects.filter(**named)
        if found := found + list(former.values_list("pk", flat=True)[:MOST]):
            return found
        names = Q(identity__endswith=digits.lstrip("0") or digits)
    return list(
        Connection.objects.using(alias())
        .filter(names)
        .order_by("pk")
        .values_list("pk", flat=True)[:MOST]
    )
