"""What the gateway posts for each SMS that comes in."""

from django import forms
from rapidsms.backends.http.forms import GenericHttpForm


class SmsForm(GenericHttpForm):
    """Number, text, and the gateway's own id of the SMS.

    By the id the router knows an SMS that is posted again, as gateways do that got no answer in
    time: it is processed once.
    """

    external_id = forms.CharField(required=False)

    def get_incoming_data(self):
        external_id = self.cleaned_data["external_id"]
        return {**super().get_incoming_data(), "fields": {"external_id": external_id}}
