"""Who may post to a view: the arguments of as_view(), and the requests that they let in."""

from __future__ import annotations

import base64

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import RequestFactory
from django.views.generic import View

from rapidsms_db_router.gateways.access import AccessMixin

SECRET = "s3cret-of-the-gateway"
requests = RequestFactory()


class Inbound(AccessMixin, View):
    def get(self, request):
        return HttpResponse("in")

    post = get


def status(request, **guards):
    return Inbound.as_view(**guards)(request).status_code


def test_a_view_without_guards_lets_everybody_in():
    assert status(requests.get("/")) == 200


@pytest.mark.parametrize(
    "request_",
    [
        requests.get("/", headers={"X-Gateway-Secret": SECRET}),
        requests.get("/", headers={"Authorization": f"Bearer {SECRET}"}),
        requests.get("/", headers={"Authorization": f"bearer  {SECRET}"}),
        requests.get("/", {"secret": SECRET}),
        requests.get("/", {"secret": ["another", SECRET]}),
        requests.post("/", {"secret": SECRET}),
        requests.post("/?secret=" + SECRET, b"{}", "application/json"),
        requests.post("/?secret=" + SECRET, b"\xff{", "text/plain"),
    ],
)
def test_a_caller_that_knows_the_secret_is_let_in(request_):
    assert status(request_, secret=SECRET) == 200
    assert status(request_, secret=["another one", SECRET]) == 200
    assert status(request_, secret="another one") == 403


@pytest.mark.parametrize(
    "request_",
    [
        requests.get("/"),
        requests.get("/", {"secret": ""}),
        requests.get("/", {"secret": SECRET + "x", "token": SECRET}),
        requests.get("/", {"secret": SECRET.upper()}),
        requests.get("/", {"secret": "\xfc"}),
        requests.get("/", headers={"Authorization": SECRET}),
        requests.get("/", headers={"Authorization": f"Basic {SECRET}"}),
        requests.get("/", headers={"Authorization": "Bearer"}),
        requests.get("/", headers={"X-Gateway-Secret": "\xfc\u1234"}),
        requests.post("/", {"secret": ""}),
        requests.post("/", SECRET, "text/plain"),
    ],
)
def test_a_caller_that_does_not_know_it_is_refused(request_):
    assert status(request_, secret=SECRET) == 403


def test_a_secret_may_have_any_letters():
    secret = "gr\xfc\xdfe \u0436"
    assert status(requests.get("/", {"secret": secret}), secret=secret) == 200
    in_a_header = secret.encode().decode("latin-1")  # as WSGI has the bytes of a header
    request = requests.get("/", headers={"X-Gateway-Secret": in_a_header})
    assert status(request, secret=secret) == 200


@pytest.mark.parametrize(
    ("address", "networks", "expected"),
    [
        ("10.1.2.3", "10.1.0.0/16", 200),
        ("10.1.2.3", ["192.0.2.0/24", "10.1.2.3"], 200),
        ("10.1.2.3", ("10.1.2.9/16",), 200),
        ("10.2.2.3", "10.1.0.0/16", 403),
        ("2001:db8::7", "2001:db8::/32", 200),
        ("2001:db9::7", "2001:db8::/32", 403),
        ("::ffff:10.1.2.3", "10.1.0.0/16", 200),
        ("10.1.2.3", "::/0", 403),
        ("", "0.0.0.0/0", 403),
        ("unix:", "0.0.0.0/0", 403),
        ("10.1.2.3, 10.1.2.4", "10.1.0.0/16", 403),
    ],
)
def test_a_caller_is_let_in_by_its_address(address, networks, expected):
    assert status(requests.get("/", REMOTE_ADDR=address), networks=networks) == expected


@pytest.mark.parametrize(
    ("address", "forwarded", "expected"),
    [
        # the proxy has written down for whom it asks
        ("127.0.0.1", "10.1.2.3", 200),
        ("127.0.0.1", "203.0.113.9", 403),
        # a caller has written an address of its own before
        ("127.0.0.1", "10.1.2.3, 203.0.113.9", 403),
        ("127.0.0.1", "203.0.113.9, 10.1.2.3", 200),
        # two proxies
        ("127.0.0.1", "10.1.2.3, 192.0.2.1", 200),
        ("127.0.0.1", "203.0.113.9, 192.0.2.1", 403),
        # no proxy in between
        ("10.1.2.3", "", 200),
        ("127.0.0.1", "", 403),
        ("127.0.0.1", "unknown, ,", 403),
        # an address that is no proxy's says nothing about others
        ("203.0.113.9", "10.1.2.3", 403),
        ("10.1.2.3", "203.0.113.9", 200),
    ],
)
def test_a_proxy_that_is_trusted_says_for_whom_it_asks(address, forwarded, expected):
    request = requests.get("/", headers={"X-Forwarded-For": forwarded}, REMOTE_ADDR=address)
    guards = {"networks": "10.1.0.0/16", "trusted_proxies": ["127.0.0.1", "192.0.2.0/24"]}
    assert status(request, **guards) == expected


def test_without_trusted_proxies_a_header_is_no_address():
    request = requests.get("/", headers={"X-Forwarded-For": "10.1.2.3"}, REMOTE_ADDR="127.0.0.1")
    assert status(request, networks="10.1.0.0/16") == 403


def test_both_guards_have_to_be_satisfied():
    guards = {"secret": SECRET, "networks": "10.1.0.0/16"}
    near, far = {"REMOTE_ADDR": "10.1.2.3"}, {"REMOTE_ADDR": "203.0.113.9"}
    assert status(requests.get("/", {"secret": SECRET}, **near), **guards) == 200
    assert status(requests.get("/", {"secret": SECRET}, **far), **guards) == 403
    assert status(requests.get("/", **near), **guards) == 403


def test_a_refusal_says_nothing_and_its_log_no_secret(caplog):
    response = Inbound.as_view(secret=SECRET)(requests.get("/", {"secret": "guess-1"}))
    assert response.content == b""
    assert "request_refused view=Inbound wrong=secret" in caplog.messages
    assert SECRET not in caplog.text and "guess-1" not in caplog.text


def test_gateways_know_no_csrf_token():
    assert Inbound.as_view(secret=SECRET).csrf_exempt


@pytest.mark.parametrize(
    ("guards", "said"),
    [
        ({"secret": ""}, "secret is an empty string"),
        ({"secret": "  "}, "secret is an empty string"),
        ({"secret": None}, "secret is of type NoneType"),
        ({"secret": []}, "secret is an empty list"),
        ({"secret": [SECRET, ""]}, "secret is an empty string, or has one"),
        ({"secret": [SECRET, None]}, "secret is a list with a NoneType"),
        ({"secret": SECRET.encode()}, "secret is of type bytes"),
        ({"secret": SECRET + "\n"}, "secret is a string that begins or ends with white space"),
        ({"secret": 4711}, "secret is of type int"),
        ({"networks": "10.1.0.0/33"}, "networks is '10.1.0.0/33'"),
        ({"networks": ["10.1.0.0/16", "localhost"]}, "networks is 'localhost'"),
        ({"networks": None}, "networks is of type NoneType"),
        ({"networks": ()}, "networks is an empty tuple"),
        ({"trusted_proxies": "nginx"}, "trusted_proxies is 'nginx'"),
    ],
)
def test_a_wrong_guard_is_told_when_urls_are_loaded_and_no_secret_with_it(guards, said):
    with pytest.raises(ImproperlyConfigured, match=r"Inbound\.as_view") as caught:
        Inbound.as_view(**guards)
    assert said in str(caught.value)
    assert SECRET not in str(caught.value) and "4711" not in str(caught.value)


def test_a_subclass_sets_guards_as_attributes():
    class Guarded(Inbound):
        secret = SECRET

    class Wrong(Inbound):
        networks = ["nowhere"]

    assert Guarded.as_view()(requests.get("/")).status_code == 403
    with pytest.raises(ImproperlyConfigured, match="nowhere"):
        Wrong.as_view()


def test_basic_authentication_is_no_bearer():
    basic = base64.b64encode(f"gateway:{SECRET}".encode()).decode()
    request = requests.get("/", headers={"Authorization": f"Basic {basic}"})
    assert status(request, secret=SECRET) == 403
