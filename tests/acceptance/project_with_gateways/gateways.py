"""``python -m tests.acceptance.project_with_gateways.gateways FOLDER``: gateways over HTTP.

Writes its address to ``address`` in the folder, and every call to ``calls.jsonl``. The file
``status``, while it is there, holds what every call is answered with; a call to a number that
begins with :data:`BAD` is answered with 400. While the file ``hangs`` is there, calls at
:data:`HANGING` are accepted and never answered; their connections are closed when it is gone.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BAD = "+3"
HANGING = "/hanging"

FOLDER = Path(sys.argv[-1])
writing = threading.Lock()


class Server(ThreadingHTTPServer):
    """Takes as many calls at once as a worker makes."""

    request_queue_size = 100


class Gateways(BaseHTTPRequestHandler):
    """Answers a call, and writes it down."""

    def do_POST(self) -> None:
        """Take JSON."""
        hangs = FOLDER / "hangs"
        if self.path == HANGING and hangs.exists():
            while hangs.exists():
                time.sleep(0.1)
            self.close_connection = True
            return
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        file = FOLDER / "status"
        status = int(file.read_text()) if file.exists() else 200
        to = body.get("to") or body.get("to_addr") or []
        if status == 200 and any(identity.startswith(BAD) for identity in to):
            status = 400
        call = {
            "time": time.time(),
            "path": self.path,
            "status": status,
            "authorization": self.headers.get("Authorization"),
            "body": body,
        }
        with writing, (FOLDER / "calls.jsonl").open("a") as log:
            log.write(json.dumps(call) + "\n")
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


def main() -> None:
    """Serve on a free port until the process is ended."""
    server = Server(("127.0.0.1", 0), Gateways)
    address = FOLDER / "address"
    unfinished = address.with_suffix(".unfinished")
    unfinished.write_text(f"http://127.0.0.1:{server.server_port}")
    unfinished.rename(address)
    server.serve_forever()


if __name__ == "__main__":
    main()
