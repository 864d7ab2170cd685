"""``python -m benchmarks.inside FUNCTION ARGUMENT ...``: what has to run inside a project.

Each call is a process of its own, so that no measurement finds the memory or the caches of
another. What the function returns is printed as JSON.
"""

from __future__ import annotations

from typing import Any

import django

django.setup()

from django.apps import apps  # noqa: E402
from django.conf import settings  # noqa: E402
from django.db import connection, models  # noqa: E402
from django.db.models.fields import NOT_PROVIDED  # noqa: E402
from psycopg import sql  # noqa: E402
from rapidsms.models import Connection  # noqa: E402

LABEL = settings.RAPIDSMS_ROUTER.removesuffix(".DatabaseRouter").rpartition(".")[2]
Message = apps.get_model(LABEL, "Message")
Transmission = apps.get_model(LABEL, "Transmission")
ROWS, CONNECTIONS = Transmission._meta.db_table, Connection._meta.db_table

FUNCTIONS: dict[str, Any] = {}


def function(measure: Any) -> Any:
    """Have a function called by its name on the command line."""
    FUNCTIONS[measure.__name__] = measure
    return measure


def insert(model: type[models.Model], source: str, **given: str) -> str:
    """Return ``INSERT ... SELECT`` of ``given`` SQL expressions and the other fields' defaults."""
    for field in model._meta.concrete_fields:
        default_of_database = getattr(field, "db_default", NOT_PROVIDED) is not NOT_PROVIDED
        if field.attname in given or field.primary_key or field.null or default_of_database:
            continue
        value = field.get_db_prep_save(field.get_default(), connection)
        given[field.attname] = sql.Literal(value).as_string(connection.connection)
    table = model._meta.db_table
    return f"INSERT INTO {table} ({', '.join(given)}) SELECT {', '.join(given.values())} {source}"


def execute(statement: str) -> int:
    """Run one statement; return how many rows it was about."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.rowcount
