"""Deletes a connection, a contact and a backend in the admin; their history stays."""

from __future__ import annotations

import time
from typing import Any

import django

django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.db import models  # noqa: E402
from django.test import Client  # noqa: E402
from django.urls import reverse  # noqa: E402
from rapidsms.models import Backend, Connection, Contact  # noqa: E402

from benchmarks.pages.table import Table  # noqa: E402
from rapidsms_db_router.models import Transmission  # noqa: E402


def owner() -> Client:
    """Return a browser of a user that may do all."""
    user, _ = User.objects.get_or_create(username="owner", is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(user)
    return client


def main() -> None:
    """Ask for the page that asks, and click, for one of each."""
    table, client, count = Table(), owner(), Transmission.objects.count()
    gateway = Backend.objects.get(name="gateway")
    # the first person has the most messages, and a name
    last = Connection.objects.order_by("-pk")[0]
    doomed: list[models.Model] = [last, Contact.objects.get(pk=1), gateway]
    for row in doomed:
        kind: Any = row._meta
        page = reverse(f"admin:{kind.app_label}_{kind.model_name}_delete", args=[row.pk])
        begun = time.monotonic()
        assert client.get(page).status_code == 200, page
        asked, begun = time.monotonic() - begun, time.monotonic()
        assert client.post(page, {"post": "yes"}).status_code == 302, page
        took = time.monotonic() - begun
        assert not type(row)._default_manager.filter(pk=row.pk).exists(), row
        table.row(f"delete a {kind.model_name}", f"page {asked:.2f} s", f"click {took:.2f} s")
    assert Transmission.objects.count() == count


if __name__ == "__main__":
    main()
