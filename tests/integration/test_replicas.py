"""Where DATABASE_ROUTERS read from a replica, the router reads where it writes.

Django forbids a test to use any database but the default, and the replica has no table: to read it
is an error.
"""

from __future__ import annotations

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import OperationalError, connection, connections
from django.urls import reverse
from rapidsms.models import Backend, Connection
from rapidsms.router import receive, send

from rapidsms_db_router import reports
from rapidsms_db_router.db.clock import now
from rapidsms_db_router.limits import operators
from rapidsms_db_router.models import Batch, Message, Transmission
from rapidsms_db_router.models.primary import PrimaryManager
from rapidsms_db_router.recovery import recover
from rapidsms_db_router.tasks import send_transmissions
from tests.integration.acting import act

pytestmark = pytest.mark.django_db

OURS = [model for model in apps.get_models() if model._meta.app_label == "rapidsms_db_router"]


class PrimaryReplicaRouter:
    """Reads from the replica, as in Django's documentation."""

    def db_for_read(self, model, **hints):
        in_replica = model._meta.app_label in ("rapidsms", "rapidsms_db_router")
        return "replica" if in_replica else "default"

    def db_for_write(self, model, **hints):
        return "default"

    def allow_relation(self, one, other, **hints):
        return True


@pytest.fixture(autouse=True)
def replica(people, settings):
    """A replica that is as far behind as can be."""
    everybody = people(3)
    sqlite = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:", "OPTIONS": {}}
    connections.settings["replica"] = {**connection.settings_dict, **sqlite}
    settings.DATABASE_ROUTERS = [f"{__name__}.PrimaryReplicaRouter"]
    # Django 4.2 forbids nothing that is new; but nothing is there to be read
    with pytest.raises((AssertionError, OperationalError), match=r"not allowed|no such table"):
        Connection.objects.count()
    yield everybody
    connections["replica"].close()
    del connections["replica"], connections.settings["replica"]


@pytest.mark.parametrize("model", OURS)
def test_every_model_is_read_where_it_is_written(model):
    assert isinstance(model._default_manager, PrimaryManager)
    assert isinstance(model._base_manager, PrimaryManager)
    assert model._default_manager.count() == model._base_manager.count()


def test_a_caller_may_name_another_database():
    assert Message.objects.using("replica").db == "replica"
    assert Message.objects.db_manager("replica").all().db == "replica"


@pytest.fixture
def admin(client):
    client.force_login(User.objects.create_superuser("admin"))

    def page(name, *args):
        response = client.get(reverse(f"admin:rapidsms_db_router_{name}", args=args))
        assert response.status_code == 200
        return response.content.decode()

    page.client = client
    return page


def test_from_a_message_to_the_report_of_its_reply(worker, replica, admin, calls):
    with worker.commit():
        inbound = receive("ping", replica[0], fields={"external_id": "a1"}).dbm
    worker.work()
    assert Message.objects.get(pk=inbound.pk).status == "R"
    reply = inbound.responses.get()
    assert (reply.status, [call.text for call in calls]) == ("S", ["pong"])
    assert reports.record("delivered", message_id=reply.pk, identity=replica[0].identity)
    reply.refresh_from_db()
    assert (reply.status, reply.set_status()) == ("D", "D")
    assert (reply.in_response_to, reply.transmissions.get().message) == (inbound, reply)
    assert not reports.record("delivered", external_id="not yet")
    for name in ("message_changelist", "transmission_changelist", "gateway_changelist"):
        assert "phones" in admin(name)
    assert "pong" in admin("message_change", reply.pk)
    assert "pong" in admin("transmission_change", reply.transmissions.get().pk)


@pytest.mark.parametrize(
    "recipients",
    [
        lambda everybody: everybody,
        lambda everybody: iter(everybody),
        lambda everybody: Connection.objects.filter(backend=everybody[0].backend_id),
        lambda everybody: Connection.objects.using("default").order_by("pk"),
        lambda everybody: Connection.objects.filter(pk=0).union(Connection.objects.all()),
    ],
    ids=["list", "iterator", "QuerySet", "of the primary", "union"],
)
def test_a_broadcast(worker, replica, calls, recipients):
    with worker.commit():
        message = send("news", recipients(replica)).database_message
    worker.work()
    message.refresh_from_db()
    assert (message.status, message.transmissions.count()) == ("S", 3)


def test_a_connection_whose_backend_is_not_loaded(worker, replica):
    person = Connection.objects.using("default").get(pk=replica[0].pk)
    with worker.commit():
        message = send("news", person).database_message
    worker.work()
    message.refresh_from_db()
    assert message.status == "S"


def test_in_eager_mode(replica, calls):
    assert receive("ping", replica[0]).dbm.responses.get().status == "S"


def test_a_task_that_is_called_directly(worker, replica, calls):
    with worker.commit():
        message = send("news", replica).database_message
    ids = list(message.transmissions.values_list("pk", flat=True))
    send_transmissions(replica[0].backend_id, message.pk, ids)
    message.refresh_from_db()
    assert message.status == "S"


def test_what_operators_do(worker, replica, admin, calls, capsys):
    operators.pause(replica[0].backend)
    with worker.commit():
        message = send("news", replica).database_message
    call_command("backends")
    assert "; 1 batches waiting" in capsys.readouterr().out
    call_command("backends", "--resume", "phones")
    Message.objects.filter(pk=message.pk).update(recover_at=now())
    call_command("recover_messages")
    worker.work()
    assert len(calls) == 1
    Transmission.objects.update(status="E")
    message.set_status()
    page = reverse("admin:rapidsms_db_router_message_changelist")
    for action in ("resend", "cancel"):
        assert act(admin.client, page, action, message.pk).status_code == 200
    message.refresh_from_db()
    assert {row.error for row in message.transmissions.all()} == {"cancelled"}


def test_the_admin_selects_what_went_through_a_backend(replica, admin):
    mine, others = send("through it", replica), send("by another way", replica[:1])
    other = Backend.objects.create(name="other")
    Connection.objects.using("default").filter(pk=replica[0].pk).update(backend=other)
    page = reverse("admin:rapidsms_db_router_message_changelist")
    said = admin.client.get(page, {"backend": replica[0].backend_id}).content.decode()
    assert mine.text in said and others.text not in said


def test_what_was_lost_is_found(worker, replica, calls):
    with worker.commit():
        receive("ping", replica[0])
        message = send("news", replica).database_message
    worker.take()
    Message.objects.update(recover_at=now())
    Batch.objects.update(ready_at="2020-01-01T00:00Z")
    recover()
    worker.work()
    message.refresh_from_db()
    assert (message.status, sorted(call.text for call in calls)) == ("S", ["news", "pong"])


def test_the_way_in_over_http(client, calls):
    client.get("/kannel/", {"id": "+254700009999", "text": "ping"})
    assert Backend.objects.using("default").filter(name="phones").exists()
