"""An answer of three messages."""

from rapidsms.contrib.handlers import KeywordHandler

from benchmarks.service import ANSWERS


class CountHandler(KeywordHandler):
    """Answers "count" with 1, 2 and 3."""

    keyword = "count"

    def help(self) -> None:
        for number in range(1, ANSWERS + 1):
            self.respond(str(number))

    def handle(self, text: str) -> None:
        self.help()
