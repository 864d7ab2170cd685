"""What the project answers to."""

from rapidsms.contrib.handlers import KeywordHandler


class PingHandler(KeywordHandler):
    """Answers "ping 1" with "pong 1"."""

    keyword = "ping"

    def help(self) -> None:
        self.respond("pong")

    def handle(self, text: str) -> None:
        self.respond(f"pong {text}")
