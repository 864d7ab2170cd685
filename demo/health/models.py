"""What the service stores."""

from django.db import models
from rapidsms.models import Contact

from rapidsms_db_router.models import Message


class CaseReport(models.Model):
    """How many cases of a disease a health worker has seen.

    One a message: if a worker dies before the message is marked as processed, the handlers run
    on it again, and must find what they stored the first time.
    """

    message = models.OneToOneField(Message, on_delete=models.CASCADE)
    reporter = models.ForeignKey(Contact, on_delete=models.CASCADE)
    disease = models.CharField(max_length=50)
    cases = models.PositiveIntegerField()
    date = models.DateTimeField(auto_now_add=True)

    def __str__(self):
        return f"{self.disease}: {self.cases}"
