"""No text and no number is in any log record above DEBUG."""

from __future__ import annotations

import logging

import pytest
from rapidsms.router import receive, send

from rapidsms_db_router import signals
from rapidsms_db_router.inbound.again import reprocess
from rapidsms_db_router.models import Message, Transmission
from rapidsms_db_router.outbound import outbox
from rapidsms_db_router.outbound.again import resend
from rapidsms_db_router.publishing import doorbells
from tests.service.messages import PriorityMessage

pytestmark = pytest.mark.django_db

SECRET = "the-secret-word"
NUMBER = "+25470000"


@pytest.fixture
def log(caplog):
    """A function that returns what was logged above DEBUG, tracebacks included."""
    caplog.set_level(logging.DEBUG)
    formatter = logging.Formatter("%(levelname)s %(name)s %(message)s")

    def log():
        loud = [record for record in caplog.records if record.levelno > logging.DEBUG]
        return "\n".join(formatter.format(record) for record in loud)

    return log


def assert_tells_nothing(said):
    assert SECRET not in said
    assert NUMBER not in said


@pytest.mark.parametrize(
    "word", ["ping", "twice", "unknown", "everyone", "spam", "echo", "raise", "dberror", "other"]
)
@pytest.mark.parametrize("mode", ["eager", "worker"])
def test_a_conversation_tells_nothing(request, people, log, word, mode):
    person, _ = people(2)
    if mode == "worker":
        worker = request.getfixturevalue("worker")
        with worker.commit():
            receive(f"{word} {SECRET}", person, fields={"external_id": f"{NUMBER}-{SECRET}"})
        worker.work()
    else:
        receive(f"{word} {SECRET}", person, fields={"external_id": f"{NUMBER}-{SECRET}"})
    assert Message.objects.get(direction="I").status in "RE"
    assert "rapidsms_db_router" in log()
    assert_tells_nothing(log())


@pytest.mark.parametrize("word", ["cancel", "raise", "dberror", "news"])
def test_an_outgoing_phase_tells_nothing(people, log, word):
    send(f"{word} {SECRET}", people(2))
    assert_tells_nothing(log())


BACKENDS = {
    "fails": {"ENGINE": "tests.service.backends.FailingBackend"},
    "refuses": {
        "ENGINE": "tests.service.backends.RefusingBackend",
        "refuses": ["+254700000000"],
    },
}


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS)
@pytest.mark.parametrize("max_retries", [0, 2])
@pytest.mark.parametrize("mode", ["eager", "worker"])
def test_a_backend_whose_exceptions_tell_all_makes_the_log_tell_nothing(
    request, people, log, installed_backends, backend, max_retries, mode
):
    installed_backends["phones"] = {**backend, "router.db.max_retries": max_retries}
    connections = people(2)
    if mode == "worker":
        worker = request.getfixturevalue("worker")
        with worker.commit():
            send(f"news {SECRET}", connections)
        worker.work()
    else:
        send(f"news {SECRET}", connections)
    assert_tells_nothing(Transmission.objects.filter(status="E").first().error)
    assert "batch_errored" in log()
    assert_tells_nothing(log())


def test_a_backend_that_is_not_installed_tells_nothing(people, log, settings):
    settings.INSTALLED_BACKENDS = {}
    send(f"news {SECRET}", people(2))
    assert "batch_errored" in log()
    assert_tells_nothing(log())


def test_bad_input_tells_nothing(person, log):
    receive(
        f"ping \x00 {SECRET}",
        person,
        fields={"external_id": SECRET * 500, "set": {SECRET}},
    )
    send(f"news {SECRET}", [person], class_=PriorityMessage, fields={SECRET: {NUMBER}})
    assert "message_cleaned" in log()
    assert "external_id_cut" in log()
    assert_tells_nothing(log())


def test_a_duplicate_tells_nothing(person, log):
    for _ in range(2):
        receive(f"ping {SECRET}", person, fields={"external_id": f"{NUMBER}{SECRET}"})
    assert "message_duplicate" in log()
    assert_tells_nothing(log())


def test_a_broker_that_is_down_tells_nothing(
    people, log, celery_setting, django_capture_on_commit_callbacks
):
    celery_setting("task_always_eager", False)
    celery_setting("broker_url", "redis://127.0.0.1:1/0")
    with django_capture_on_commit_callbacks(execute=True):
        receive(f"ping {SECRET}", people(1)[0], fields={"number": NUMBER})
        send(f"news {SECRET}", people(2))
    assert "publishing_failed" in log()
    assert_tells_nothing(log())


def test_of_a_receiver_that_raises_our_log_tells_the_class_alone(people, caplog):
    def receiver(message, **kwargs):
        raise ValueError(f"{message.text} {NUMBER}")

    every = (signals.message_processed, signals.transmissions_sent)
    for signal in every:
        signal.connect(receiver)
    try:
        receive(f"ping {SECRET}", people(1)[0])
    finally:
        for signal in every:
            signal.disconnect(receiver)
    # Django's own logger, django.dispatch, has the rest
    said = [record.getMessage() for record in caplog.records if record.name == signals.__name__]
    assert len(said) == 2
    for line in said:
        assert line.startswith("receiver_failed receiver=")
        assert line.endswith(" error=ValueError")


def test_what_is_tried_again_on_request_tells_nothing(people, log, installed_backends):
    installed_backends["phones"] = {**BACKENDS["fails"], "router.db.max_retries": 0}
    send(f"news {SECRET}", people(2))
    receive(f"raise {SECRET}", people(1)[0])
    outbox.send(resend(Transmission.objects.all())[1])
    for pk in reprocess(Message.objects.all()):
        doorbells.publish_inbound(Message.objects.get(pk=pk))
    assert "transmissions_resent" in log()
    assert "messages_reprocessed" in log()
    assert_tells_nothing(log())


def test_the_traceback_is_there_for_who_asks_for_debug(person, caplog):
    caplog.set_level(logging.DEBUG)
    receive(f"raise {SECRET}", person)
    assert SECRET in caplog.text
    assert "Traceback" in caplog.text
