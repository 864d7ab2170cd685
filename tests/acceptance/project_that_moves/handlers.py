"""What the project fails to answer."""

from rapidsms.contrib.handlers import KeywordHandler


class BrokenHandler(KeywordHandler):
    """Fails at "break"."""

    keyword = "break"

    def help(self) -> None:
        raise RuntimeError("broken")

    def handle(self, text: str) -> None:
        raise RuntimeError("broken")
