"""What people can send in: HELP, REGISTER and REPORT."""

from rapidsms.contrib.handlers import KeywordHandler
from rapidsms.models import Contact

from demo.health.models import CaseReport


class HelpHandler(KeywordHandler):
    """``HELP``: what can be sent in."""

    keyword = "help"

    def help(self):
        self.respond("Send REGISTER <your name>, then REPORT <disease> <cases>.")

    def handle(self, text):
        self.help()


class RegisterHandler(KeywordHandler):
    """``REGISTER <name>``: who has this number."""

    keyword = "register"

    def help(self):
        self.respond("Send REGISTER <your name>.")

    def handle(self, text):
        (connection,) = self.msg.connections
        contact = connection.contact or Contact()
        contact.name = text.strip()[:100]
        contact.save()
        connection.contact = contact
        connection.save()
        self.respond(f"Welcome, {contact.name}. Now send REPORT <disease> <cases>.")


class ReportHandler(KeywordHandler):
    """``REPORT <disease> <cases>``: what a registered health worker has seen."""

    keyword = "report"

    def help(self):
        self.respond("Send REPORT <disease> <cases>, for example REPORT malaria 3.")

    def handle(self, text):
        (connection,) = self.msg.connections
        disease, _, cases = text.strip().rpartition(" ")
        if connection.contact is None:
            self.respond_error("We do not know you yet. Send REGISTER <your name>.")
        elif not disease or not cases.isdecimal():
            self.help()
        else:
            report, _ = CaseReport.objects.update_or_create(
                message=self.msg.dbm,
                defaults={
                    "reporter": connection.contact,
                    "disease": disease.lower()[:50],
                    "cases": int(cases),
                },
            )
            self.respond(f"Thank you, {connection.contact}. Noted: {report}.")
