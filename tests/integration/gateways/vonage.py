"""Vonage's SMS API."""

import os

from django.urls import path

from rapidsms_db_router.gateways.http.views import HttpInboundView, HttpReportView

# settings
BACKEND = {
    "ENGINE": "rapidsms_db_router.gateways.HttpBackend",
    "url": "https://rest.nexmo.com/sms/json",
    "json": {
        "api_key": os.environ["VONAGE_API_KEY"],
        "api_secret": os.environ["VONAGE_API_SECRET"],
        "from": "Clinic",
        "to": "{identity}",
        "text": "{text}",
        "type": "{coding}",
    },
    "codings": ["text", "unicode"],
    "numbers": "digits",
    "success": {"messages[].status": "0"},
    # throttled, wrong credentials, an error of theirs, blocked, no credit
    "later": {"messages[].status": ["1", "4", "5", "8", "9"]},
    # wrong message or number, barred, not allowed, deactivated
    "permanent": {"messages[].status": ["6", "7", "29", "33"]},
    "id": "messages[].message-id",
}
VIEWS = [
    path(
        "gateway/inbound/",
        HttpInboundView.as_view(
            backend_name="gateway",
            secret=os.environ["SECRET"],
            identity="msisdn",
            numbers="plus",
            id="messageId",
        ),
    ),
    path(
        "gateway/report/",
        HttpReportView.as_view(
            backend_name="gateway",
            secret=os.environ["SECRET"],
            id="messageId",
            identity="msisdn",
            reason="err-code",
            outcomes={
                "accepted": "accepted",
                "buffered": "buffered",
                "delivered": "delivered",
                "expired": "failed",
                "failed": "failed",
                "rejected": "rejected",
            },
        ),
    ),
]
# end
