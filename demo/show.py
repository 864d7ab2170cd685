"""The main job, done in front of the user: SMS that are answered, and a broadcast."""

import json
import time
import uuid
from typing import NamedTuple
from urllib.parse import urlencode
from urllib.request import urlopen

from django.conf import settings
from django.db.models import Count
from rapidsms.models import Backend, Connection
from rapidsms.router import send

from demo import gateway
from demo.processes import DemoFailed
from demo.screen import DIM, PLAIN, StatusTable, say
from rapidsms_db_router.choices import Status
from rapidsms_db_router.models import Message


class Sms(NamedTuple):
    """An SMS that somebody sends in, and what has to come back."""

    number: str
    text: str
    reply: str


GRACE, SAMUEL = "+256772000001", "+256772000002"
CONVERSATION = (
    Sms(GRACE, "help", "Send REGISTER <your name>, then REPORT <disease> <cases>."),
    Sms(GRACE, "register Grace", "Welcome, Grace. Now send REPORT <disease> <cases>."),
    Sms(GRACE, "report malaria 3", "Thank you, Grace. Noted: malaria: 3."),
    Sms(GRACE, "Report yellow fever 1", "Thank you, Grace. Noted: yellow fever: 1."),
    Sms(SAMUEL, "report cholera 2", "We do not know you yet. Send REGISTER <your name>."),
    Sms(SAMUEL, "hello?", "Sorry, we did not understand. Send HELP to see what we do."),
)
PREFIX = "+256701"
NUMBERS = [f"{PREFIX}{n:06}" for n in range(2000)]


class Conversation:
    """Posts each SMS to the web server, as a gateway does, and shows its reply arriving."""

    def __init__(self, web, processes):
        self.url = f"{web}sms/"
        self.processes = processes
        #: each SMS, and the gateway's id of it
        self.posted = []

    def run(self):
        """Post each SMS and wait for its reply; post the last twice."""
        for sms in CONVERSATION:
            external_id = uuid.uuid4().hex
            self.posted.append((sms, external_id))
            began = time.monotonic()
            self.post(sms, external_id)
            sent = Message.objects.filter(
                in_response_to__external_id=external_id, status=Status.SENT
            )
            reply = self.processes.wait_for(sent.first, 30, f"the reply to {sms.text!r}")
            say(f"{'<-':>18} {reply.text} {DIM}({time.monotonic() - began:.1f} s){PLAIN}")
        say("  That one again, as gateways do that were not answered in time; it gets no reply:")
        self.post(sms, external_id)

    def post(self, sms, external_id):
        """Post an SMS."""
        data = {"identity": sms.number, "text": sms.text, "external_id": external_id}
        try:
            with urlopen(self.url, urlencode(data).encode(), timeout=30):
                say(f"  {sms.number} -> {sms.text}")
        except OSError as err:
            raise DemoFailed(f"The web server did not take {sms.text!r}: {err}") from err

    def problems(self):
        """Yield what is not as it should be: each SMS stored, R, and answered, all once."""
        for sms, external_id in self.posted:
            stored = list(Message.objects.filter(external_id=external_id))
            if [message.status for message in stored] != [Status.RECEIVED]:
                yield f"{sms.text!r} is stored as {rows(stored)}; once, and R, was expected"
            replies = list(Message.objects.filter(in_response_to__in=stored))
            if [(reply.text, reply.status) for reply in replies] != [(sms.reply, Status.SENT)]:
                yield f"{sms.text!r} got {rows(replies)}; {sms.reply!r}, S, was expected"
            for reply in replies:
                if accepted(reply) != {sms.number: 1}:
                    yield f"the gateway took {reply.text!r} for {accepted(reply)}"


class Texting:
    """Has each SMS texted from a phone at Kannel, and shows its answer and what came of that."""

    def __init__(self, web, phones, processes):
        self.web = web
        self.phones = phones
        self.processes = processes
        self.earlier = list(Message.objects.order_by("-pk").values_list("pk", flat=True)[:1])

    def run(self):
        """Text each SMS, and wait for its answer and for the report that it was delivered."""
        for count, sms in enumerate(CONVERSATION, start=1):
            began = time.monotonic()
            self.phones.text(sms.number, sms.text)
            say(f"  {sms.number} -> {sms.text}")
            what = f"the answer to {sms.text!r}"
            self.processes.wait_for(lambda n=count: len(self.phones.received()) >= n, 30, what)
            received = self.phones.received()[-1]
            say(f"{'<-':>18} {received.text} {DIM}({time.monotonic() - began:.1f} s){PLAIN}")
            reply = self.processes.wait_for(
                self.delivered(sms).first, 30, f"the delivery report of {what}"
            )
            page = f"{self.web}admin/rapidsms_db_router/message/{reply.pk}/change/"
            say(f"{reply.status:>18}  {reply.get_status_display()}: {page}")

    def delivered(self, sms):
        """Return the answers to an SMS that are known to be delivered."""
        return self.messages().filter(
            in_response_to__text=sms.text,
            in_response_to__transmissions__connection__identity=sms.number,
            status=Status.DELIVERED,
        )

    def messages(self):
        """Return the messages of this run."""
        return Message.objects.filter(pk__gt=max(self.earlier, default=0))

    def problems(self):
        """Yield what is not as it should be: each SMS answered and delivered, all once."""
        for sms in CONVERSATION:
            replies = list(self.delivered(sms))
            if [reply.text for reply in replies] != [sms.reply]:
                yield f"{sms.text!r} got {rows(replies)}; {sms.reply!r}, D, was expected"
        got = sorted((phone, text) for _, phone, text in self.phones.received())
        expected = sorted((sms.number, sms.reply) for sms in CONVERSATION)
        if got != expected:
            yield f"the phones got {got}; {expected} was expected"
        if (count := self.messages().count()) != 2 * len(CONVERSATION):
            yield f"{count} messages are stored; {2 * len(CONVERSATION)} were expected"


class Broadcast:
    """Sends one message to 2,000 people, and shows how its transmissions fare."""

    text = "Vaccination day is on Friday, from 8 in the morning."

    def __init__(self, processes):
        self.processes = processes
        backend, _ = Backend.objects.get_or_create(name="gateway")
        Connection.objects.bulk_create(
            (Connection(backend=backend, identity=number) for number in NUMBERS),
            ignore_conflicts=True,
        )
        self.people = Connection.objects.filter(backend=backend, identity__startswith=PREFIX)

    def run(self):
        """Send it, and show the table until no status will change any more."""
        self.message = send(self.text, self.people).database_message
        self.table = StatusTable(len(NUMBERS))
        self.processes.wait_for(self.is_over, 120, "the end of the broadcast")

    def is_over(self):
        """Show how many transmissions have which status; return whether all have ended."""
        transmissions = self.message.transmissions.values_list("status")
        counts = dict.fromkeys(Status, 0)
        again = 0
        for status, count, to_be_tried in transmissions.annotate(Count("pk"), Count("next_try")):
            counts[Status(status)] = count
            again += to_be_tried
        self.table.show(counts, again)
        return not (counts[Status.QUEUED] or counts[Status.PROCESSING] or again)

    def problems(self):
        """Yield what is not as it should be: every transmission's end, and the gateway's count."""
        columns = "connection__identity", "status", "error", "attempts", "next_try"
        ends = {number: end for number, *end in self.message.transmissions.values_list(*columns)}
        expected = {number: self.expected_end(number) for number in NUMBERS}
        yield from differences("transmissions", ends, expected)
        once = {number: 1 for number in NUMBERS if not gateway.has_no_subscriber(number)}
        yield from differences("gateway's counts", accepted(self.message), once)

    @staticmethod
    def expected_end(number):
        """Return the status, error, tries and next try that a number's transmission ends with."""
        if gateway.has_no_subscriber(number):
            error = f"MessageSendingError: Refused: {gateway.NO_SUCH_NUMBER}"
            return [Status.ERRORED, error, settings.DB_ROUTER_MAX_RETRIES + 1, None]
        tries = gateway.REFUSALS + 1 if gateway.is_switched_off(number) else 1
        return [Status.SENT, "", tries, None]


def differences(what, found, expected):
    """Yield in how many items two mappings differ, with an example."""
    wrong = [key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key)]
    if wrong:
        key = min(wrong)
        yield (
            f"{len(wrong)} of the {what} are wrong, such as that of {key}:"
            f" {found.get(key)}; {expected.get(key)} was expected"
        )


def rows(messages):
    """Return messages in words."""
    return [f"{message}, {message.status}" for message in messages] or "nothing"


def accepted(message):
    """Return how often the gateway took a message for each number."""
    url = settings.INSTALLED_BACKENDS["gateway"]["url"]
    with urlopen(f"{url}?id={message.pk}", timeout=30) as answer:
        return json.load(answer)["accepted"]
