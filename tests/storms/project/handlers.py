"""An app that does not survive a certain message."""

from django.conf import settings
from rapidsms.contrib.handlers import KeywordHandler

from tests.storms.project.gateway import POISON, die


class PoisonHandler(KeywordHandler):
    """Kills the process that runs it."""

    keyword = POISON

    def help(self) -> None:
        die(settings.RUN_FOLDER)

    def handle(self, text: str) -> None:
        self.help()
