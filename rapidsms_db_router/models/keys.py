"""Rows named by their keys."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import Q


def among(keys: Iterable[int], field: str = "pk") -> Q:
    """Return the condition that a column is one of some keys.

    Of keys alone PostgreSQL's planner, without statistics, expects each on a page of its own, and
    prefers to read the whole table; of their range it does not. MariaDB reads a small table whole,
    and waits for the lock of each row that it meets.

    :param field: the column: the primary key, or a foreign key.
    """
    found = set(keys)
    if not found:
        return Q(**{f"{field}__in": found})
    first, last = min(found), max(found)
    if first == last:
        return Q(**{field: first})
    named = Q(**{f"{field}__gte": first, f"{field}__lte": last})
    return named if last - first + 1 == len(found) else named & Q(**{f"{field}__in": found})
