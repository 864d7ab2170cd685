"""Rows named by their keys."""

from __future__ import annotations

from collections.abc import Collection

from django.db.models import Q


def among(keys: Collection[int], field: str = "pk") -> Q:
    """Return the condition that a column is one of some keys, at least one.

    Of keys alone PostgreSQL's planner, without statistics, expects each on a page of its own, and
    prefers to read the whole table; of their range it does not.

    :param field: the column: the primary key, or a foreign key.
    """
    found, first, last = set(keys), min(keys), max(keys)
    if first == last:
        return Q(**{field: first})
    named = Q(**{f"{field}__gte": first, f"{field}__lte": last})
    return named if last - first + 1 == len(found) else named & Q(**{f"{field}__in": found})
