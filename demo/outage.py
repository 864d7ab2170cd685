"""A gateway that refuses every call for a while, during a broadcast, and what operators see."""

import json
from urllib.request import Request, urlopen

from django.conf import settings
from rapidsms.models import Backend, Connection
from rapidsms.router import send

from demo.screen import DIM, GREEN, PLAIN, RED, say
from demo.show import accepted, differences
from rapidsms_db_router.choices import Status
from rapidsms_db_router.limits import operators

NAME = "north"
PREFIX = "+256782"
#: The circuit is open for 1, 2, 4, 8 and 16 seconds: the trial after the last closes it.
SECONDS, PEOPLE = 25, 900
#: Where nobody looks.
SHORT_SECONDS, FEW_PEOPLE = 2, 60


class Outage:
    """A broadcast by a gateway that has no credit for some seconds, and is then itself again."""

    text = "The road to the north is open again."

    def __init__(self, processes, is_watched):
        self.processes = processes
        self.seconds, people = (SECONDS, PEOPLE) if is_watched else (SHORT_SECONDS, FEW_PEOPLE)
        self.numbers = [f"{PREFIX}{n:06}" for n in range(1, people + 1) if n % 100 and n % 33]
        backend, _ = Backend.objects.get_or_create(name=NAME)
        Connection.objects.bulk_create(
            (Connection(backend=backend, identity=number) for number in self.numbers),
            ignore_conflicts=True,
        )
        self.people = Connection.objects.filter(backend=backend, identity__in=self.numbers)
        self.said = None

    def run(self):
        """Send the broadcast, have the gateway fail, and wait until all have got it."""
        self.message = send(self.text, self.people).database_message
        say(f"  A broadcast to {len(self.numbers)} people is on its way, 20 a second.")
        self.processes.wait_for(lambda: self.sent() >= 20, 60, "the first SMS of the broadcast")
        say(f"  {RED}Now the gateway {NAME} refuses every call: 403, no credit.{PLAIN}")
        self.refuse(3600)
        self.processes.wait_for(self.is_out_of_order, 60, "the outage to be seen")
        say(f"  It will have credit again in {self.seconds} seconds.")
        self.refuse(self.seconds)
        self.processes.wait_for(self.works_again, 120, "the gateway to be called again")
        say(f"  {GREEN}It works again, by itself.{PLAIN} The others are sent now.")
        self.processes.wait_for(lambda: self.sent() == len(self.numbers), 120, "the last SMS")
        say(f"  All {len(self.numbers)} people got it once.")

    def refuse(self, seconds):
        """Have the gateway refuse every call from now on, for so many seconds."""
        body = json.dumps({"seconds": seconds}).encode()
        url = settings.INSTALLED_BACKENDS[NAME]["url"]
        with urlopen(Request(url, body, method="PUT"), timeout=30):
            pass

    def sent(self):
        """Return how many people were sent the message."""
        return self.message.transmissions.filter(status=Status.SENT).count()

    def state(self):
        """Return the backend's state in words; print it if it has changed."""
        backend = Backend.objects.select_related("router_state").get(name=NAME)
        words, _, _ = operators.describe(backend).partition(", ")  # without the moment of a trial
        if words != self.said:
            say(f"  {DIM}{NAME}: {words}{PLAIN}")
            self.said = words
        return words

    def is_out_of_order(self):
        """Return whether the backend is called out of order."""
        return self.state().startswith("out of order")

    def works_again(self):
        """Return whether the backend is called as ever."""
        return self.state() == "working"

    def problems(self):
        """Yield what is not as it should be: everybody was sent the message, and once."""
        if (sent := self.sent()) != len(self.numbers):
            yield f"{sent} of {len(self.numbers)} were sent the broadcast of {NAME}"
        once = dict.fromkeys(self.numbers, 1)
        yield from differences("counts of the other gateway", accepted(self.message), once)
