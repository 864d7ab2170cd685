"""Pretended SMS gateways, one a path: ``python -m demo.gateway PORT``.

``POST`` with ``{"id": ..., "text": ..., "to": [numbers]}`` sends a message, and answers
``{"refused": {number: reason}}``. ``GET ?id=...`` answers how often each number got a message.
``PUT`` with ``{"seconds": ...}`` has the gateway of that path refuse every call for so long.
"""

import json
import sys
import time
from collections import Counter, defaultdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from urllib.parse import parse_qs, urlsplit

NO_CREDIT = "no credit"
NO_SUCH_NUMBER = "no such number"
SWITCHED_OFF = "phone switched off"
#: How often a phone that is switched off refuses a message before it takes it.
REFUSALS = 2
#: What it takes to hand over one SMS, in seconds.
SMS_TIME = 0.004

lock = Lock()
tries = defaultdict(Counter)
accepted = defaultdict(Counter)
#: By path: until when that gateway refuses every call.
refusing = {}


def has_no_subscriber(number):
    """Return whether a number is refused for ever: one in a hundred."""
    return number.endswith("00")


def is_switched_off(number):
    """Return whether a number is refused for a while: three in a hundred."""
    return number.endswith(("33", "66", "99"))


def send(message, number):
    """Take one SMS, and return ``None``; or the reason why it is refused."""
    with lock:
        tries[message][number] += 1
        if has_no_subscriber(number):
            return NO_SUCH_NUMBER
        if is_switched_off(number) and tries[message][number] <= REFUSALS:
            return SWITCHED_OFF
        accepted[message][number] += 1
        return None


class Server(ThreadingHTTPServer):
    """Takes as many calls at once as a worker makes."""

    request_queue_size = 100


class Handler(BaseHTTPRequestHandler):
    """One request."""

    def do_POST(self):
        message = self.body()
        if time.monotonic() < refusing.get(self.path, 0):
            self.answer({}, HTTPStatus.FORBIDDEN, NO_CREDIT)
            return
        time.sleep(SMS_TIME * len(message["to"]))
        results = {number: send(message["id"], number) for number in message["to"]}
        self.answer({"refused": {number: why for number, why in results.items() if why}})

    def do_GET(self):
        query = parse_qs(urlsplit(self.path).query)
        with lock:
            counts = dict(accepted[int(query["id"][0])])
        self.answer({"accepted": counts})

    def do_PUT(self):
        refusing[self.path] = time.monotonic() + self.body()["seconds"]
        self.answer({})

    def body(self):
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, said, status=HTTPStatus.OK, reason=None):
        body = json.dumps(said).encode()
        self.send_response(status, reason)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
