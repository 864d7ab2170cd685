"""A clinic's project and its tests, as it was with ``rapidsms.router.db``: only paths changed.

Everything here is the way projects test themselves: RapidSMS's own mixins, eager tasks in a
``TestCase``, tasks called directly, ``delay`` patched.
"""

from __future__ import annotations

from unittest.mock import patch

from django.test import TestCase, override_settings
from rapidsms.backends.database.models import BackendMessage
from rapidsms.errors import MessageSendingError
from rapidsms.models import Connection
from rapidsms.router import lookup_connections
from rapidsms.tests.harness import CustomRouterMixin, DatabaseBackendMixin, MockBackend
from rapidsms.tests.harness.backend import FailedIdentitiesBackend, RaisesBackend

from rapidsms_db_router import DatabaseRouter
from rapidsms_db_router.models import Message, Transmission
from rapidsms_db_router.tasks import receive_async, send_transmissions

ROUTER = "rapidsms_db_router.DatabaseRouter"


class ConversationTest(DatabaseBackendMixin, TestCase):
    """Patients write in, and the clinic answers."""

    router_class = ROUTER
    handlers = ("rapidsms.contrib.echo.handlers.echo.EchoHandler",)

    def setUp(self):
        super().setUp()
        self.patient = self.lookup_connections(["0711000001"])[0]

    def test_a_patient_gets_an_answer(self):
        msg = self.receive("echo thank you", self.patient)
        dbm = Message.objects.get(pk=msg.id)
        self.assertEqual(dbm.status, "R")
        self.assertEqual(dbm.get_status_display(), "Received")
        answer = self.sent_messages.get()
        self.assertEqual((answer.text, answer.identity), ("thank you", "0711000001"))

    def test_an_answer_is_linked_to_its_question(self):
        msg = self.receive("echo hello", self.patient)
        answer = msg.dbm.responses.get()
        self.assertEqual(answer.in_response_to_id, msg.dbm.pk)
        self.assertEqual(answer.direction, "O")
        self.assertEqual(answer.status, "S")
        self.assertEqual(answer.transmissions.get().status, "S")
        self.assertIsNotNone(answer.sent)

    def test_the_gateways_id_goes_with_the_answer(self):
        self.receive("echo hello", self.patient, fields={"external_id": "gw-1"})
        self.assertEqual(Message.objects.get(direction="I").external_id, "gw-1")
        self.assertEqual(self.sent_messages.get().external_id, "gw-1")

    def test_a_reminder_goes_to_all(self):
        patients = self.lookup_connections([f"071100000{n}" for n in range(5)])
        msg = self.send("Come tomorrow", patients)
        dbm = msg.database_message
        self.assertEqual(dbm.set_status(), "S")
        self.assertEqual(self.sent_messages.count(), 5)
        self.assertEqual(dbm.transmissions.filter(status="S").count(), 5)

    def test_a_reminder_goes_to_a_queryset(self):
        self.lookup_connections(["0711000002", "0722000003"])
        self.send("Come tomorrow", Connection.objects.filter(identity__startswith="0722"))
        self.assertEqual([sent.identity for sent in self.sent_messages], ["0722000003"])

    def test_history_is_found_from_the_connection(self):
        self.receive("echo hello", self.patient)
        directions = self.patient.transmissions.values_list("message__direction", flat=True)
        self.assertEqual(sorted(directions), ["I", "O"])

    def test_the_message_handed_to_the_database_backend_has_the_rows_id(self):
        msg = self.send("Come tomorrow", [self.patient])
        self.assertEqual(BackendMessage.objects.get().message_id, str(msg.database_message.pk))


class QueueTest(DatabaseBackendMixin, TestCase):
    """What is stored, and which tasks are published with what."""

    router_class = ROUTER

    def setUp(self):
        super().setUp()
        self.patients = self.lookup_connections([f"07110000{n:02}" for n in range(10)])

    def test_an_inbound_message_is_stored_and_its_task_published(self):
        with patch.object(receive_async, "delay") as delay:
            msg = self.receive("hello", self.patients[0], fields={"n": 1})
        delay.assert_called_once_with(message_id=msg.id, fields={"n": 1})
        self.assertEqual(msg.dbm.status, "Q")
        self.assertEqual(msg.dbm.transmissions.get().status, "Q")

    def test_an_outbound_message_is_stored_and_its_task_published(self):
        with patch.object(send_transmissions, "delay") as delay:
            msg = self.send("hello", self.patients)
        dbm = Message.objects.get(pk=msg.database_message.pk)
        ids = list(dbm.transmissions.order_by("pk").values_list("pk", flat=True))
        delay.assert_called_once_with(
            backend_id=self.backend.pk, message_id=dbm.pk, transmission_ids=ids
        )
        self.assertEqual(dbm.status, "P")
        self.assertEqual(set(dbm.transmissions.values_list("status", flat=True)), {"Q"})

    @override_settings(DB_ROUTER_DEFAULT_BATCH_SIZE=4)
    def test_the_setting_of_the_batch_size_divides_a_broadcast(self):
        with patch.object(send_transmissions, "delay") as delay:
            self.send("hello", self.patients)
        sizes = [len(call.kwargs["transmission_ids"]) for call in delay.call_args_list]
        self.assertEqual(sizes, [4, 4, 2])

    def test_transmissions_are_grouped_by_backend_and_size(self):
        others = lookup_connections("other", ["1", "2"])
        router = DatabaseRouter()
        dbm = router.queue_message("O", self.patients + others, "hello")
        groups = [
            (backend_id, [row.connection.identity for row in rows])
            for backend_id, rows in router.group_transmissions(dbm.transmissions, batch_size=6)
        ]
        first, *_ = groups
        self.assertEqual(sorted(len(identities) for _, identities in groups), [2, 4, 6])
        self.assertEqual(
            {backend_id for backend_id, _ in groups}, {self.backend.pk, others[0].backend_id}
        )
        self.assertIsInstance(first[0], int)

    def test_transmissions_are_grouped_from_a_manager_and_a_queryset(self):
        router = DatabaseRouter()
        dbm = router.queue_message("O", self.patients, "hello")
        for rows in (dbm.transmissions, dbm.transmissions.all(), Transmission.objects.all()):
            ((backend_id, batch),) = router.group_transmissions(rows)
            self.assertEqual((backend_id, batch.count()), (self.backend.pk, 10))

    def test_queue_message_keeps_the_external_id(self):
        dbm = DatabaseRouter().queue_message("I", self.patients[:1], "x", {"external_id": "7"})
        self.assertEqual((dbm.status, dbm.direction, dbm.external_id), ("Q", "I", "7"))

    def test_a_message_is_made_from_its_row(self):
        router = DatabaseRouter()
        dbm = router.queue_message("I", self.patients[:2], "hello")
        msg = router.create_message_from_dbm(dbm, fields={"n": 1})
        self.assertEqual((msg.id, msg.text, msg.fields), (dbm.pk, "hello", {"n": 1}))
        self.assertEqual(list(msg.connections), self.patients[:2])
        self.assertEqual(msg.dbm, dbm)
        bare = router.create_message_from_dbm(dbm, fetch_connections=False)
        self.assertEqual(list(bare.connections), [])

    def test_an_app_error_is_seen_in_the_status(self):
        router = DatabaseRouter()
        dbm = router.queue_message("I", self.patients[:1], "hello")
        with patch.object(DatabaseRouter, "process_incoming", side_effect=RuntimeError("no")):
            receive_async(message_id=dbm.pk, fields={})
        dbm.refresh_from_db()
        self.assertEqual(dbm.status, "E")
        self.assertEqual(dbm.transmissions.get().status, "E")

    def test_receive_async_called_directly_receives(self):
        dbm = DatabaseRouter().queue_message("I", self.patients[:1], "hello")
        receive_async(dbm.pk, fields={})
        dbm.refresh_from_db()
        self.assertEqual((dbm.status, dbm.transmissions.get().status), ("R", "R"))


class GatewayTest(CustomRouterMixin, TestCase):
    """Gateways that fail, in whole or in part."""

    router_class = ROUTER
    backends = {
        "fine": {"ENGINE": MockBackend},
        "broken": {"ENGINE": RaisesBackend},
        "picky": {"ENGINE": FailedIdentitiesBackend},
    }

    def store(self, backend, *identities):
        """Store a message to these, and return what the task is called with."""
        connections = self.lookup_connections(backend, identities)
        dbm = DatabaseRouter().queue_message("O", connections, "hello")
        ids = list(dbm.transmissions.order_by("pk").values_list("pk", flat=True))
        return dbm, (connections[0].backend_id, dbm.pk, ids)

    def statuses(self, dbm):
        dbm.refresh_from_db()
        rows = dbm.transmissions.order_by("connection__identity")
        return dbm.status, list(rows.values_list("status", flat=True))

    def test_a_gateway_that_works(self):
        dbm, arguments = self.store("fine", "a", "b")
        send_transmissions(*arguments)
        self.assertEqual(self.statuses(dbm), ("S", ["S", "S"]))

    def test_a_gateway_that_raises(self):
        dbm, arguments = self.store("broken", "a", "b")
        with self.assertRaises(MessageSendingError):
            send_transmissions(*arguments)
        self.assertEqual(self.statuses(dbm), ("E", ["E", "E"]))

    def test_a_gateway_that_names_whom_it_failed(self):
        dbm, arguments = self.store("picky", "1", "2")
        with self.assertRaises(MessageSendingError):
            send_transmissions(*arguments)
        self.assertEqual(self.statuses(dbm), ("E", ["E", "S"]))

    def test_a_gateway_that_is_not_installed(self):
        dbm, arguments = self.store("unknown", "a")
        with self.assertRaises(MessageSendingError):
            send_transmissions(*arguments)
        self.assertEqual(self.statuses(dbm), ("E", ["E"]))

    def test_a_gateway_that_raises_does_not_fail_who_sends(self):
        connections = self.lookup_connections("broken", ["a"])
        msg = self.send("hello", connections)
        self.assertEqual(self.statuses(msg.database_message), ("E", ["E"]))

    def test_what_was_sent_is_not_sent_again(self):
        dbm, arguments = self.store("fine", "a")
        with patch.object(MockBackend, "send") as backend_send:
            send_transmissions(*arguments)
            send_transmissions(*arguments)
        backend_send.assert_called_once()
        self.assertEqual(self.statuses(dbm), ("S", ["S"]))
        self.assertEqual(backend_send.call_args.kwargs["identities"], ["a"])
        self.assertEqual(backend_send.call_args.kwargs["text"], "hello")
