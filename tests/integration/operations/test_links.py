"""A link is shown to a user who may open where it leads, and to no other user."""

from __future__ import annotations

import html
import re
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.template import engines
from django.test import Client, RequestFactory
from django.urls import reverse
from rapidsms.router import receive, send

import rapidsms_db_router
from rapidsms_db_router import bulk_actions
from rapidsms_db_router.choices import Status
from rapidsms_db_router.limits import operators
from rapidsms_db_router.models import EarlyReport, Message, Transmission
from rapidsms_db_router.operations.models import Draft
from rapidsms_db_router.operations.tallies import filling
from rapidsms_db_router.operations.urls import urlpatterns
from tests import pages

pytestmark = pytest.mark.django_db

OURS = "rapidsms_db_router", "rapidsms_db_router_operations"
#: Where our pages of the admin begin, and RapidSMS's that they lead to.
ADMIN = "/admin/rapidsms_db_router", "/admin/rapidsms/backend/"
LINK = re.compile(r'(?:href|action)="([^"]*)"')
#: Some permissions together, beside each alone.
TOGETHER = (
    ("view_transmission", "see_personal"),
    ("view_transmission", "view_backend"),
    ("view_message", "see_personal"),
    ("view_message", "view_transmission", "see_personal"),
    ("view_gateway", "view_backend"),
    ("view_gateway", "pause_backend"),
    ("view_message", "pause_backend"),
    ("view_message", "resend_message", "broadcast", "export", "send"),
    ("view_earlyreport", "see_personal"),
    ("view_earlyreport", "see_personal", "view_backend"),
)


@pytest.fixture
def entries(worker, people, person) -> list[str]:
    """A service with something on each page; the addresses of all its pages."""
    with worker.commit():
        broadcast = send("news", people(30)).database_message
        several = send("to some", people(3)).database_message
        inbound = receive("ping", person).dbm
    worker.work()
    person.refresh_from_db()
    Message.objects.filter(pk=several.pk).update(in_response_to=inbound)
    failed = Transmission.objects.filter(message=several)
    failed.update(status=Status.ERRORED, error="no credit")
    Message.objects.filter(pk=several.pk).update(status=Status.ERRORED)
    report = EarlyReport.objects.create(backend=person.backend, external_id="a", outcome="D")
    filling.fill()
    action = bulk_actions.prepare("resend", failed, "amina")
    operators.pause(person.backend, by="amina")
    with worker.commit():
        send("held", [person])
    draft = Draft.objects.create(text="x", backend=person.backend, author="amina")
    keys = [broadcast.pk, several.pk, person.pk, person.backend_id, action.pk, draft.pk]
    browser = Client()
    browser.force_login(User.objects.create_superuser("amina"))
    rows = {
        "message": several.pk,
        "transmission": failed.order_by("pk")[0].pk,
        "gateway": person.backend_id,
        "bulkaction": action.pk,
        "earlyreport": report.pk,
    }
    of_admin = [
        reverse(f"admin:rapidsms_db_router_{name}_{page}", args=args)
        for name, pk in rows.items()
        for page, args in (("changelist", []), ("change", [pk]), ("history", [pk]))
    ]
    of_admin.append(reverse("admin:rapidsms_backend_change", args=[person.backend_id]))
    found = [*pages.urls(browser, {"pk": keys, "backend": [person.backend_id]}).values(), *of_admin]
    assert [browser.get(url).status_code for url in found] == [200] * len(found)
    return ["/admin/", *found]


def browser_of(*names: str) -> Client:
    """Return a browser of a member of the staff with some permissions."""
    user = User.objects.create_user(f"user{User.objects.count()}", is_staff=True)
    found = Permission.objects.filter(codename__in=names)
    assert found.count() == len(names)
    user.user_permissions.set(found)
    client = Client()
    client.force_login(user)
    return client


def links(text: str, page: str) -> set[str]:
    """Return the addresses on a page that are of our pages, without parameters and itself."""
    found = {urlsplit(urljoin(page, html.unescape(url))).path for url in LINK.findall(text)}
    return {url for url in found if url.startswith((reverse("router-operations"), *ADMIN))} - {page}


def refused(browser: Client, entries: list[str]) -> tuple[int, list[str]]:
    """Open all that a user may open, and every link there.

    :returns: how many pages were opened, and the links that were refused.
    """
    answers: dict[str, int] = {}
    waiting = [("", url) for url in entries]
    wrong = []
    while waiting:
        page, url = waiting.pop()
        if url not in answers:
            answer = browser.get(url)
            answers[url] = answer.status_code
            if answer.status_code == 200 and not answer.streaming:
                waiting += [(url, each) for each in links(answer.content.decode(), url)]
        if page and answers[url] in (403, 404):
            wrong.append(f"{page} -> {url}")
    return sum(status == 200 for status in answers.values()), wrong


def test_no_link_leads_to_a_page_that_the_user_may_not_open(entries):
    ours = Permission.objects.filter(content_type__app_label__in=OURS)
    alone = [(name,) for name in ours.values_list("codename", flat=True)]
    assert len(alone) > 10
    counts, wrong = {}, {}
    for names in [*alone, *TOGETHER, ("view_backend",), ("delete_backend", "view_backend")]:
        counts[names], wrong[names] = refused(browser_of(*names), entries)
    assert not {names: each for names, each in wrong.items() if each}
    # a walk that is refused everywhere proves nothing
    assert counts["view_message",] > len(urlpatterns) / 2
    assert counts["view_transmission", "see_personal"] > 3


def test_a_new_project_shows_the_entry_to_users_who_may_open_it_and_to_strangers():
    folder = Path(rapidsms_db_router.__file__).parent / "project_template" / "templates"
    bar = engines["django"].from_string((folder / "rapidsms" / "_nav_bar.html").read_text())
    request = RequestFactory().get("/")
    one, other = User.objects.create_user("one"), User.objects.create_user("other")
    other.user_permissions.add(Permission.objects.get(codename="view_message"))
    shown = []
    for request.user in (AnonymousUser(), one, other):
        shown.append("Operations" in bar.render({}, request))
    # a stranger is asked to log in
    assert shown == [True, False, True]
