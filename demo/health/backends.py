"""The way out: hands messages to the SMS gateway over HTTP."""

import json
from urllib.request import Request, urlopen

from rapidsms.backends.base import BackendBase
from rapidsms.errors import MessageSendingError


class GatewayBackend(BackendBase):
    """Posts a message with all the numbers of a batch, and tells the router which were refused."""

    def configure(self, url, **kwargs):
        self.url = url

    def send(self, id_, text, identities, context=None):
        body = json.dumps({"id": id_, "text": text, "to": identities}).encode()
        request = Request(self.url, body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=30) as response:
            refused = json.load(response)["refused"]
        if refused:
            reasons = ", ".join(sorted(set(refused.values())))
            raise MessageSendingError(f"Refused: {reasons}", failed_identities=list(refused))
