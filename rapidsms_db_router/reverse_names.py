"""``Connection.transmissions``, where ``rapidsms.router.db`` is installed as well.

Both apps want that name. It belongs to the router that ``RAPIDSMS_ROUTER`` names, so that a
project's code reads the messages of its router before and after the move. The transmissions of the
other app have another name.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.conf import settings
from django.db.models import Model

OLD_APP = "rapidsms.router.db"
#: The two models, as Django labels them.
OLD, OURS = "db.Transmission", "rapidsms_db_router.Transmission"
#: The name that the one that yields has instead.
INSTEAD = {OLD: "old_transmissions", OURS: "router_transmissions"}


def yields() -> str | None:
    """Return which of the two models has not the name; ``None`` if only ours is installed.

    A project's own router class is not imported for that: while the old app is installed, it counts
    as the old router.
    """
    if not apps.is_installed(OLD_APP):
        return None
    router = str(getattr(settings, "RAPIDSMS_ROUTER", ""))
    return OLD if router.startswith("rapidsms_db_router.") else OURS


def rename(sender: type[Model], **_: Any) -> None:
    """Give the model that yields its other name; a receiver of Django's ``class_prepared``.

    At that moment the relation is not resolved yet. Migrations see the name that the field was
    declared with, so that they have nothing to change.
    """
    label = sender._meta.label
    if label in INSTEAD and sender._meta.apps is apps and label == yields():
        relation: Any = sender._meta.get_field("connection").remote_field
        relation.related_name = INSTEAD[label]
