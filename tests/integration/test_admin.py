"""The admin: finds everything at a constant cost, changes nothing, acts for whom it may."""

from __future__ import annotations

import re
from datetime import timedelta
from urllib.parse import quote

import django
import pytest
from django import urls
from django.contrib.admin import site
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import translation
from django.utils.timezone import now
from rapidsms.models import Backend
from rapidsms.router import receive, send

from rapidsms_db_router.admin.base import BoundedPaginator
from rapidsms_db_router.choices import in_words
from rapidsms_db_router.limits import operators
from rapidsms_db_router.models import BackendState, Message, Transmission
from rapidsms_db_router.operations.models import Broadcast
from tests.integration.acting import act

pytestmark = pytest.mark.django_db

MESSAGES = "/admin/rapidsms_db_router/message/"
TRANSMISSIONS = "/admin/rapidsms_db_router/transmission/"
PAGES = pytest.mark.parametrize(
    "page", [MESSAGES, TRANSMISSIONS], ids=["messages", "transmissions"]
)
FAILING = {"ENGINE": "tests.service.backends.FailingBackend", "router.db.max_retries": 0}


def user_who(*permissions):
    """Make a member of staff with these permissions of our app."""
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    assert user.user_permissions.count() == len(permissions)
    return user


VIEW = ("view_message", "view_transmission")


@pytest.fixture
def admin(client):
    """A superuser's browser."""
    client.force_login(User.objects.create_superuser("admin"))
    return client


def ids(response):
    """Return the primary keys on a list page, in its order."""
    assert response.status_code == 200
    return [row.pk for row in response.context["cl"].result_list]


def of_text(text):
    return Message.objects.get(text=text).pk


# Cost


@PAGES
@pytest.mark.parametrize(
    "query",
    ["", "?status__exact=S", "?q=news", "?q=nothing+like+it", "?o=-1"],
    ids=["all", "filter", "search", "vain search", "sorted"],
)
def test_a_list_page_asks_as_many_queries_of_50_rows_as_of_5(admin, people, page, query):
    def queries():
        admin.get(page + query)  # what is cached on the first visit
        with CaptureQueriesContext(connection) as captured:
            ids(admin.get(page + query))
        return len(captured)

    store(people(2), 5)
    few = queries()
    store(people(2), 45)
    assert queries() == few <= 15


def store(connections, count):
    """Store so many messages with a transmission to each connection."""
    messages = [
        Message.objects.create(direction="O", text=f"news {n}", status="S") for n in range(count)
    ]
    Transmission.objects.bulk_create(
        Transmission(message=message, connection=connection, status="S")
        for message in messages
        for connection in connections
    )


@PAGES
@pytest.mark.parametrize(
    "query",
    [
        "",
        pytest.param(
            "?_facets=True",
            marks=pytest.mark.skipif(django.VERSION < (5, 0), reason="Django has no facets"),
        ),
        "?status__exact=S",
        "?q=news",
        "?q=nothing+like+it",
        "?date__gte=2020-01-01+00:00:00%2B00:00",
    ],
)
def test_a_list_page_counts_no_whole_table_and_sorts_by_nothing_but_the_primary_key(
    admin, people, page, query
):
    send("news", people(3))
    with CaptureQueriesContext(connection) as captured:
        ids(admin.get(page + query))
    ours = [
        sql for sql in (entry["sql"] for entry in captured) if "FROM" in sql and "_router_" in sql
    ]
    assert ours
    for sql in ours:
        assert "COUNT(" not in sql.upper() or "LIMIT" in sql.upper(), sql
        for columns in re.findall(r"ORDER BY (.+?)(?: LIMIT|\)|$)", sql):
            assert re.search(r"[\"`]id[\"`]", columns), sql
            assert "," not in columns, sql


@PAGES
def test_a_list_page_offers_to_sort_by_the_primary_key_alone(admin, person, page):
    send("news", [person])
    offered = set(re.findall(r"[?&;]o=-?(\d+)", admin.get(page).content.decode()))
    assert offered == {"1"}


def test_paging_ends_at_a_bound(admin, people, monkeypatch):
    monkeypatch.setattr(BoundedPaginator, "most", 2)
    send("news", people(3))
    assert admin.get(TRANSMISSIONS).context["cl"].result_count == 2


# Finding


@pytest.fixture
def correspondence(people, installed_backends):
    """A conversation on each of two backends, and a broadcast that failed on one."""
    installed_backends["radios"] = {**FAILING}
    phone, radio = people(1, "phones")[0], people(1, "radios")[0]
    receive("echo from a phone", phone, fields={"external_id": "gw-1"})
    receive("whatever from a radio", radio, fields={"external_id": "gw-2"})
    send("broadcast", [phone, radio])


@pytest.mark.parametrize(
    ("query", "texts"),
    [
        ("", ["broadcast", "whatever from a radio", "from a phone", "echo from a phone"]),
        # search
        ("q=from+a+phone", ["from a phone", "echo from a phone"]),
        ("q=gw-1", ["echo from a phone"]),
        ("q=gw-2", ["whatever from a radio"]),
        ("q=+gw-2+", ["whatever from a radio"]),
        ("q=nothing", []),
        # filters
        ("direction__exact=I", ["whatever from a radio", "echo from a phone"]),
        ("direction__exact=O", ["broadcast", "from a phone"]),
        ("status__exact=E", ["broadcast"]),
        ("state=Failed", ["broadcast"]),
        ("state=Retrying", []),
        ("state=R", ["whatever from a radio", "echo from a phone"]),
        ("state=S", ["from a phone"]),
        ("backend=phones", ["broadcast", "from a phone", "echo from a phone"]),
        ("backend=radios", ["broadcast", "whatever from a radio"]),
        (
            "backend=nonsense",
            ["broadcast", "whatever from a radio", "from a phone", "echo from a phone"],
        ),
        ("direction__exact=I&backend=radios", ["whatever from a radio"]),
    ],
)
@pytest.mark.usefixtures("correspondence")
def test_messages_are_searched_and_filtered(admin, query, texts):
    for backend in Backend.objects.all():
        query = query.replace(f"backend={backend.name}", f"backend={backend.pk}")
    assert ids(admin.get(f"{MESSAGES}?{query}")) == [of_text(text) for text in texts]


@pytest.mark.usefixtures("correspondence")
def test_messages_are_found_by_number(admin, people):
    other = people(2)[1]
    send("to another", [other])
    found = ids(admin.get(MESSAGES, {"q": other.identity}))
    assert found == [of_text("to another")]


@pytest.mark.usefixtures("correspondence")
def test_messages_are_filtered_by_date(admin):
    Message.objects.filter(text="broadcast").update(date=now() - timedelta(days=40))
    recent = {"date__gte": (now() - timedelta(days=7)).isoformat()}
    assert of_text("broadcast") not in ids(admin.get(MESSAGES, recent))
    assert len(ids(admin.get(MESSAGES, recent))) == 3


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 5),
        ("q=%2B254700000000", 5),
        ("q=gw-1", 1),
        ("q=broadcast", 2),
        ("q=nothing", 0),
        ("status__exact=E", 1),
        ("status__exact=S", 2),
        ("message__direction__exact=I", 2),
        ("connection__backend__id__exact=radios", 2),
        ("state=Failed", 1),
        ("state=Retrying", 0),
        ("state=S", 2),
        ("state=nonsense", 5),
    ],
)
@pytest.mark.usefixtures("correspondence")
def test_transmissions_are_searched_and_filtered(admin, query, count):
    for backend in Backend.objects.all():
        query = query.replace(f"exact={backend.name}", f"exact={backend.pk}")
    found = ids(admin.get(f"{TRANSMISSIONS}?{query}"))
    assert len(found) == count
    assert found == sorted(found, reverse=True)


@PAGES
def test_what_is_tried_again_is_told_from_what_has_failed(
    admin, people, worker, installed_backends, page
):
    installed_backends["phones"] = {**FAILING, "router.db.max_retries": 1}
    with worker.commit():
        send("news", people(1))
    worker.work()
    for state, other in (("Retrying", "Failed"), ("Failed", "Retrying")):
        assert len(ids(admin.get(page, {"state": state}))) == 1
        assert ids(admin.get(page, {"state": other})) == []
        (row,) = admin.get(page).context["cl"].queryset
        assert (row.status, row.state) == ("E", state)
        detail = admin.get(f"{page}{row.pk}/change/").content.decode()
        assert state in detail
        assert other not in detail
        assert f'<td class="field-state_and_error">{state} <' in admin.get(page).content.decode()
        worker.make_due()


def test_a_message_that_nobody_can_get_has_failed(admin, person):
    nobody, inbound = send("news", []).database_message, receive("raise now", person).dbm
    assert ids(admin.get(MESSAGES, {"state": "Failed"})) == [inbound.pk, nobody.pk]
    assert ids(admin.get(MESSAGES, {"state": "Retrying"})) == []
    for message in (nobody, inbound):
        message.refresh_from_db()
        assert message.state == "Failed"


def test_a_recipient_that_waits_for_its_gateway_shows_why(
    admin, person, worker, installed_backends
):
    installed_backends["phones"] = {
        "ENGINE": "tests.service.backends.AnsweringBackend",
        "answer": lambda _: 503,
    }
    with worker.commit():
        send("news", [person])
    worker.work()
    row = Transmission.objects.get()
    assert (row.status, row.state, row.attempts) == ("Q", "Waiting", 0)
    assert "MessageSendingError: HTTP 503" in admin.get(TRANSMISSIONS).content.decode()
    assert BackendState.objects.get().open_until is None
    installed_backends["phones"] = {"ENGINE": "tests.service.backends.RecordingBackend"}
    worker.make_due()
    row.refresh_from_db()
    assert (row.status, row.error) == ("S", "")


# One message, one transmission


def test_a_message_shows_its_counts_by_status_with_links_to_the_rows(
    admin, people, installed_backends
):
    installed_backends["phones"] = {
        "ENGINE": "tests.service.backends.RefusingBackend",
        "refuses": ["+254700000001"],
        "router.db.max_retries": 0,
    }
    send("another", people(1))
    message = send("news", people(3)).database_message
    page = admin.get(f"{MESSAGES}{message.pk}/change/").content.decode()
    links = dict(
        re.findall(r'href="([^"]+state=[A-Za-z]+)">(\d+ \w+)</a>', page.replace("&amp;", "&"))
    )
    assert sorted(links.values()) == ["1 Failed", "2 Sent"]
    for link, said in links.items():
        rows = Transmission.objects.filter(pk__in=ids(admin.get(link)))
        assert f"{len(rows)} {rows[0].state}" == said
        assert {row.message_id for row in rows} == {message.pk}


def test_a_message_to_nobody_says_so(admin):
    message = send("news", []).database_message
    page = admin.get(f"{MESSAGES}{message.pk}/change/").content.decode()
    assert "no recipients" in page


def test_a_message_shows_what_it_answers_and_its_replies_as_links(admin, person):
    question = receive("ping", person).dbm
    answer = question.responses.get()
    page = admin.get(f"{MESSAGES}{question.pk}/change/").content.decode()
    assert f'href="{MESSAGES}{answer.pk}/change/"' in page
    page = admin.get(f"{MESSAGES}{answer.pk}/change/").content.decode()
    assert f'href="{MESSAGES}{question.pk}/change/"' in page


def test_a_message_that_errored_shows_the_traceback(admin, person):
    message = receive("raise now", person).dbm
    page = admin.get(f"{MESSAGES}{message.pk}/change/").content.decode()
    assert "RuntimeError: cannot do" in page
    assert "Traceback" in page


def test_a_transmission_that_failed_shows_its_error_and_its_next_try(
    admin, people, worker, installed_backends
):
    installed_backends["phones"] = {**FAILING, "router.db.max_retries": 1}
    with worker.commit():
        send("news", people(1))
    worker.work()
    row = Transmission.objects.get()
    for page in (TRANSMISSIONS, f"{TRANSMISSIONS}{row.pk}/change/"):
        said = admin.get(page).content.decode()
        assert "ConnectionError: no way to" in said
        assert "Next try" in said


@pytest.mark.parametrize(
    "text",
    ["<script>alert(1)</script>", "{% debug %} {{ x }}", "", "%s %(x)s", "مرحبا 😀", "x" * 100_000],
    ids=["markup", "template", "empty", "percent", "unicode", "long"],
)
def test_strange_texts_are_shown_as_text(admin, person, text):
    message = receive(text, person, fields={"note": text}).dbm
    reply = send(text, [person]).database_message
    Message.objects.filter(pk=reply.pk).update(in_response_to=message, error=text)
    for page in (
        MESSAGES,
        TRANSMISSIONS,
        f"{MESSAGES}{message.pk}/change/",
        f"{MESSAGES}{reply.pk}/change/",
    ):
        response = admin.get(page)
        assert response.status_code == 200
        assert "<script>alert" not in response.content.decode()


def test_the_page_of_a_message_with_many_transmissions_costs_what_one_costs(admin, people):
    def queries(message):
        with CaptureQueriesContext(connection) as captured:
            admin.get(f"{MESSAGES}{message.pk}/change/")
        return len(captured)

    few, many = send("few", people(1)), send("many", people(60))
    queries(few.database_message)
    assert queries(many.database_message) == queries(few.database_message)


# Read-only


@pytest.mark.parametrize("model", ["message", "transmission"])
def test_nothing_can_be_added_changed_or_deleted_not_even_by_a_superuser(admin, person, model):
    message = send("news", [person]).database_message
    row = message if model == "message" else message.transmissions.get()
    before = list(Message.objects.values()), list(Transmission.objects.values())
    urls = {
        "add": reverse(f"admin:rapidsms_db_router_{model}_add"),
        "change": reverse(f"admin:rapidsms_db_router_{model}_change", args=(row.pk,)),
        "delete": reverse(f"admin:rapidsms_db_router_{model}_delete", args=(row.pk,)),
    }
    assert admin.get(urls["add"]).status_code == 403
    assert admin.get(urls["delete"]).status_code == 403
    for url in urls.values():
        assert admin.post(url, {"text": "changed", "status": "D", "post": "yes"}).status_code == 403
    assert (list(Message.objects.values()), list(Transmission.objects.values())) == before


@PAGES
def test_there_is_no_action_that_deletes(admin, person, page):
    send("news", [person])
    assert "delete_selected" not in admin.get(page).content.decode()
    act(admin, page, "delete_selected", Message.objects.get().pk)
    assert (Message.objects.count(), Transmission.objects.count()) == (1, 1)


@PAGES
def test_a_stranger_is_sent_to_the_login(client, page):
    assert client.get(page).status_code == 302


@PAGES
def test_staff_without_a_permission_see_nothing(client, page):
    client.force_login(user_who())
    assert client.get(page).status_code == 403


# Actions


def said(response):
    return [str(message) for message in response.context["messages"]]


@pytest.fixture
def errored(people, installed_backends):
    """A message whose three transmissions were given up; its backend works again."""
    installed_backends["phones"] = {
        **FAILING,
        "ENGINE": "tests.service.backends.RefusingBackend",
        "refuses": ["+254700000000", "+254700000001"],
    }
    message = send("news", people(3)).database_message
    assert statuses(message) == ("E", "EES")
    installed_backends["phones"]["refuses"] = []
    return message


def statuses(message):
    message.refresh_from_db()
    rows = message.transmissions.order_by("pk").values_list("status", flat=True)
    return message.status, "".join(rows)


def test_resend_sends_the_errored_transmissions_of_messages_again(admin, errored, calls):
    calls.clear()
    response = act(admin, MESSAGES, "resend", errored.pk)
    assert said(response) == ["2 errored transmissions will be sent again."]
    assert statuses(errored) == ("S", "SSS")
    assert [call.identities for call in calls] == [["+254700000000", "+254700000001"]]


def test_resend_sends_chosen_transmissions_again_and_no_others(admin, errored, calls):
    calls.clear()
    first = errored.transmissions.order_by("pk").first()
    response = act(admin, TRANSMISSIONS, "resend", first.pk)
    assert said(response) == ["1 errored transmission will be sent again."]
    assert statuses(errored) == ("E", "SES")
    assert [call.identities for call in calls] == [["+254700000000"]]


def test_resend_of_everything_found_takes_what_the_filter_shows(admin, errored, calls):
    response = act(admin, TRANSMISSIONS + "?status__exact=E", "resend", 0, select_across="1")
    assert said(response) == ["2 errored transmissions will be sent again."]
    assert statuses(errored) == ("S", "SSS")


def test_resend_publishes_tasks(admin, errored, worker):
    with worker.commit():
        act(admin, MESSAGES, "resend", errored.pk)
    (task,) = worker.take()
    assert (task.name, task.kwargs["message_id"]) == ("send_transmissions", 0)
    assert statuses(errored) == ("P", "QQS")


def test_resend_of_what_did_not_fail_says_so_and_does_nothing(admin, person, calls):
    message = send("news", [person]).database_message
    response = act(admin, MESSAGES, "resend", message.pk)
    assert said(response) == ["0 errored transmissions will be sent again."]
    assert (statuses(message), len(calls)) == (("S", "S"), 1)


def test_reprocess_runs_the_apps_again(admin, person, received):
    message = receive("raise now", person).dbm
    Message.objects.filter(pk=message.pk).update(text="ping")  # the app was mended, so to say
    response = act(admin, MESSAGES, "reprocess", message.pk)
    assert said(response) == ["1 errored inbound message will be processed again."]
    message.refresh_from_db()
    assert (message.status, message.error, len(received)) == ("R", "", 2)
    assert message.responses.get().text == "pong"


def test_reprocess_publishes_tasks(admin, person, worker):
    with worker.commit():
        message = receive("raise now", person).dbm
    worker.work()
    with worker.commit():
        act(admin, MESSAGES, "reprocess", message.pk)
    (task,) = worker.take()
    assert (task.name, task.kwargs["message_id"]) == ("receive_async", message.pk)
    assert statuses(message) == ("Q", "Q")


def test_reprocess_leaves_alone_what_did_not_err_and_what_is_outbound(admin, errored, person):
    message = receive("ping", person).dbm
    response = act(admin, MESSAGES, "reprocess", message.pk, errored.pk)
    assert said(response) == ["0 errored inbound messages will be processed again."]
    assert statuses(errored) == ("E", "EES")
    assert statuses(message) == ("R", "R")


@PAGES
def test_a_user_who_may_only_view_is_offered_no_action(client, errored, page):
    client.force_login(user_who(*VIEW))
    assert "Send errored transmissions again" not in client.get(page).content.decode()


@PAGES
@pytest.mark.parametrize("action", ["resend", "reprocess"])
def test_a_user_who_may_only_view_runs_no_action(client, errored, person, page, action):
    inbound = receive("raise", person).dbm
    client.force_login(user_who(*VIEW))
    pks = [errored.pk, inbound.pk]
    if page == TRANSMISSIONS:
        pks = list(Transmission.objects.values_list("pk", flat=True))
    act(client, page, action, *pks)
    assert statuses(errored) == ("E", "EES")
    assert statuses(inbound) == ("E", "E")


def test_a_user_with_the_permission_to_resend_may_do_that_alone(client, errored, person):
    inbound = receive("raise", person).dbm
    client.force_login(user_who(*VIEW, "resend_message"))
    act(client, MESSAGES, "reprocess", inbound.pk)
    assert statuses(inbound) == ("E", "E")
    act(client, MESSAGES, "resend", errored.pk)
    assert statuses(errored) == ("S", "SSS")


def test_a_user_with_the_permission_to_reprocess_may_do_that_alone(client, errored, person):
    inbound = receive("raise", person).dbm
    Message.objects.filter(pk=inbound.pk).update(text="whatever")
    client.force_login(user_who(*VIEW, "reprocess_message"))
    act(client, MESSAGES, "resend", errored.pk)
    assert statuses(errored) == ("E", "EES")
    act(client, MESSAGES, "reprocess", inbound.pk)
    assert statuses(inbound) == ("R", "R")


def test_a_permission_to_resend_without_one_to_view_opens_nothing(client, errored):
    client.force_login(user_who("resend_message"))
    assert act(client, MESSAGES, "resend", errored.pk).status_code == 403
    assert statuses(errored) == ("E", "EES")


# Backends

BACKENDS = "/admin/rapidsms_db_router/gateway/"


def test_the_page_of_backends_shows_what_waits(admin, worker, people, installed_backends):
    installed_backends["other"] = installed_backends["phones"]
    with worker.commit():
        send("news", people(3))
        send("more", people(1))
    people(1, "other")
    operators.pause(Backend.objects.get(name="other"))
    page = admin.get(BACKENDS)
    shown = {row.name: row for row in page.context["cl"].result_list}
    assert (shown["phones"].waiting_batches, shown["other"].waiting_batches) == (2, None)
    text = re.sub(r"<[^>]*>", " ", page.content.decode())
    assert re.search(r"other\s+paused since [-0-9: ]+UTC\s+0\s+0\s+0\s+0", text)
    assert re.search(r"phones\s+working\s+0\s+2\s+0\s+0", text)


def test_the_page_of_backends_asks_as_many_queries_for_ten_as_for_one(admin, people):
    def queries():
        with CaptureQueriesContext(connection) as captured:
            admin.get(BACKENDS)
        return len(captured)

    people(1)
    queries()
    one = queries()
    for number in range(9):
        operators.pause(people(1, f"backend {number}")[0].backend)
    assert queries() == one


@pytest.mark.parametrize("may", [True, False])
def test_backends_are_paused_and_resumed_by_those_who_may(client, worker, people, calls, may):
    backend = people(1)[0].backend
    client.force_login(user_who("view_gateway", *(["pause_backend"] if may else [])))

    def choose(action):
        selected = {"action": action, "_selected_action": [backend.pk]}
        with worker.commit():
            asked = client.post(BACKENDS, selected, follow=True)
            if action == "resume" and may:
                assert "1 batches wait for it" in asked.content.decode()
                assert BackendState.objects.get().paused
            client.post(BACKENDS, selected | {"confirmed": "yes"}, follow=True)

    choose("pause")
    with worker.commit():
        send("news", people(1))
    worker.work()
    assert (calls == []) is may
    choose("resume")
    worker.work()
    assert len(calls) == 1


def test_nobody_adds_changes_or_deletes_a_backend_there(admin, people):
    backend = people(1)[0].backend
    for path in ("add/", f"{backend.pk}/delete/"):
        assert admin.get(BACKENDS + path).status_code == 403
    admin.post(f"{BACKENDS}{backend.pk}/change/", {"name": "other"})
    backend.refresh_from_db()
    assert backend.name == "phones"


@pytest.mark.parametrize("may", [True, False], ids=["both pages", "RapidSMS's alone"])
def test_the_index_has_one_entry_for_backends(client, people, may):
    backend = people(1)[0].backend
    client.force_login(user_who("delete_backend", "view_backend", *["view_gateway"] * may))
    theirs = "/admin/rapidsms/backend/"
    index = client.get("/admin/").content.decode()
    assert [f'href="{page}"' in index for page in (BACKENDS, theirs)] == [may, not may]
    if may:
        assert f'href="{theirs}{backend.pk}/change/"' in client.get(BACKENDS).content.decode()
    assert (
        f"{theirs}{backend.pk}/delete/"
        in client.get(f"{theirs}{backend.pk}/change/").content.decode()
    )


def test_a_backend_is_no_link_to_a_page_that_the_user_may_not_see(client, people):
    people(1)
    client.force_login(user_who("view_gateway"))
    assert "/admin/rapidsms/backend/" not in client.get(BACKENDS).content.decode()


# The pages of operators


@pytest.fixture
def shown(admin, people):
    """By page of the admin the page of operators that it links to."""
    one, *others = people(25)
    to_one = send("to one", one).database_message
    to_several = send("to several", others[:2]).database_message
    broadcast = send("to many", others).database_message
    Broadcast.objects.create(message=broadcast, recipients=24)
    conversation = f"/operations/messages/of/{one.pk}/"
    backend = f"/operations/backends/{one.backend_id}/"
    return {
        MESSAGES: conversation,
        f"{MESSAGES}?direction__exact=O": f"/operations/broadcasts/{broadcast.pk}/",
        f"{MESSAGES}{to_one.pk}/change/": conversation,
        f"{MESSAGES}{to_several.pk}/change/": f"/operations/broadcasts/{to_several.pk}/",
        f"{MESSAGES}{broadcast.pk}/change/": f"/operations/broadcasts/{broadcast.pk}/",
        TRANSMISSIONS: conversation,
        f"{TRANSMISSIONS}{to_one.transmissions.get().pk}/change/": conversation,
        BACKENDS: backend,
        f"/admin/rapidsms/backend/{one.backend_id}/change/": backend,
    }


def test_the_admin_leads_to_the_pages_of_operators(admin, shown):
    for page, leads_to in shown.items():
        text = admin.get(page).content.decode()
        assert f'href="{leads_to}"' in text, page
        assert admin.get(leads_to).status_code == 200


@pytest.mark.parametrize("lacking", ["the app", "its URLs"])
def test_without_the_pages_of_operators_the_admin_has_no_link(
    admin, shown, settings, monkeypatch, lacking
):
    if lacking == "the app":
        monkeypatch.setattr("rapidsms_db_router.personal.OPERATIONS", "not.installed")
    else:
        settings.ROOT_URLCONF = (urls.path("admin/", site.urls),)
    for page in shown:
        response = admin.get(page)
        assert response.status_code == 200
        assert "/operations/" not in response.content.decode(), page


@pytest.mark.parametrize("status", ["Q", "R", "P", "S", "D", "E"])
def test_the_admin_says_the_words_of_the_pages(admin, person, status):
    send("news", person)
    Transmission.objects.update(status=status)
    listed = admin.get("/operations/messages/").content.decode()
    (word,) = re.findall(r'<span class="label [a-z-]*">([^<]+)</span>', listed)
    page = admin.get(TRANSMISSIONS).content.decode()
    assert f'<td class="field-state_and_error">{word}</td>' in page
    assert f">{word}</a></li>" in page
    with translation.override("fr"):
        assert in_words(status, retrying=False) == word, "kept in archives in one language"


def test_a_message_of_which_something_is_under_way_is_not_in_flight(admin, person):
    message = send("news", person).database_message
    Message.objects.filter(pk=message.pk).update(status="P")
    page = admin.get(MESSAGES).content.decode()
    assert '<td class="field-state_and_error">Under way</td>' in page
    assert "In flight" not in page


# Numbers


def test_messages_show_their_number_and_backend(admin, people):
    one, *others = people(3)
    send("to one", one)
    send("to several", others)
    text = admin.get(MESSAGES).content.decode()
    assert one.identity in text
    assert "phones" in text
    assert f"{others[0].identity} and others" in text


@PAGES
def test_numbers_and_texts_are_masked_for_those_who_may_not_see_them(client, person, page):
    message = send("the secret text", person).database_message
    row = message.transmissions.get()
    Transmission.objects.update(error=f"no {person.identity}")
    Message.objects.update(error=f"no {person.identity}")
    client.force_login(user_who(*VIEW))
    text = client.get(page).content.decode()
    assert "…000" in text
    assert person.identity not in text
    assert "secret" not in text
    of_message = "" if page == MESSAGES else "message__"
    for guess in ("q=nothing", "error__contains=x", f"{of_message}text__startswith=x"):
        assert len(ids(client.get(f"{page}?{guess}", follow=True))) == 1
    for pk in (row.pk, message.pk):
        assert client.get(f"{page}{pk}/change/").status_code in (302, 403)
        assert client.get(f"{page}{pk}/history/").status_code in (302, 403)
    User.objects.get().user_permissions.add(Permission.objects.get(codename="see_personal"))
    assert "secret" in client.get(page).content.decode()


# Junk

JUNK = ["\xb2", "\u0663", "", "-1", "9" * 40, "1.5", "\0", "\ud800"]
PARAMETERS = [
    "backend",
    "connection__backend__id__exact",
    "connection__backend__id__isnull",
    "date__gte",
    "date__lt",
    "direction__exact",
    "e",
    "id__exact",
    "id__in",
    "message__direction__exact",
    "message__id__exact",
    "next_try",
    "no_such_field",
    "o",
    "p",
    "q",
    "status__exact",
    "text__regex",
    "_facets",
    "_popup",
    "_to_field",
    "all",
]
GATEWAYS = "/admin/rapidsms_db_router/gateway/"


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: ascii(junk)[:12])
@pytest.mark.parametrize("page", [MESSAGES, TRANSMISSIONS, GATEWAYS])
def test_whatever_an_address_says_is_no_error_of_the_server(admin, person, page, junk):
    receive("ping", person)
    value = quote(junk.encode("utf-8", "surrogatepass"))
    for name in PARAMETERS:
        response = admin.get(f"{page}?{name}={value}", follow=True)
        assert response.status_code in (200, 400), name
    for address in (f"{page}{value}/change/", f"{page}{value}/history/"):
        assert admin.get(address, follow=True).status_code in (200, 404)
