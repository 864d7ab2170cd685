"""Twilio."""

import os

from django.urls import path

from rapidsms_db_router.gateways.http.views import HttpInboundView, HttpReportView

# settings
ACCOUNT = os.environ["TWILIO_ACCOUNT_SID"]
BACKEND = {
    "ENGINE": "rapidsms_db_router.gateways.HttpBackend",
    "url": f"https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}/Messages.json",
    "auth": (ACCOUNT, os.environ["TWILIO_AUTH_TOKEN"]),
    "form": {
        "To": "{identity}",
        "From": "+15017122661",
        "Body": "{text}",
        "StatusCallback": f"https://sms.example.org/gateway/report/?secret={os.environ['SECRET']}",
    },
    "numbers": "plus",
    "success": {"status": ["accepted", "queued", "sending", "sent", "scheduled"]},
    # no number for SMS, has said STOP, cannot be reached from ours
    "permanent": {"code": [21211, 21610, 21612, 21614]},
    # too many calls; a mistake in these settings: From is no number, From or To is missing
    "later": {"code": [20429, 21212, 21603, 21604]},
    "id": "sid",
}
VIEWS = [
    path(
        "gateway/inbound/",
        HttpInboundView.as_view(
            backend_name="gateway",
            secret=os.environ["SECRET"],
            identity="From",
            text="Body",
            id="MessageSid",
        ),
    ),
    path(
        "gateway/report/",
        HttpReportView.as_view(
            backend_name="gateway",
            secret=os.environ["SECRET"],
            id="MessageSid",
            identity="To",
            status="MessageStatus",
            reason="ErrorCode",
            outcomes={
                "queued": "accepted",
                "sending": "accepted",
                "sent": "accepted",
                "delivered": "delivered",
                "undelivered": "failed",
                "failed": "failed",
            },
        ),
    ),
]
# end
