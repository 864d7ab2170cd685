"""Infobip."""

import os

from django.urls import path

from rapidsms_db_router.gateways.http.views import HttpInboundView, HttpReportView

# settings
BACKEND = {
    "ENGINE": "rapidsms_db_router.gateways.HttpBackend",
    "url": "https://example.api.infobip.com/sms/2/text/advanced",
    "headers": {"Authorization": f"App {os.environ['INFOBIP_API_KEY']}"},
    "json": {
        "messages": [
            {
                "from": "Clinic",
                "destinations": [{"to": "{identity}"}],
                "text": "{text}",
            }
        ]
    },
    "numbers": "digits",
    "success": {"messages[].status.groupName": ["ACCEPTED", "PENDING", "DELIVERED"]},
    "permanent": {"messages[].status.groupName": "UNDELIVERABLE"},
    "id": "messages[].messageId",
}
VIEWS = [
    path(
        "gateway/inbound/",
        HttpInboundView.as_view(
            backend_name="gateway",
            secret=os.environ["SECRET"],
            items="results",
            numbers="plus",
            id="messageId",
        ),
    ),
    path(
        "gateway/report/",
        HttpReportView.as_view(
            backend_name="gateway",
            secret=os.environ["SECRET"],
            items="results",
            id="messageId",
            identity="to",
            status="status.groupName",
            reason="error.name",
            date="doneAt",
            outcomes={
                "PENDING": "accepted",
                "DELIVERED": "delivered",
                "UNDELIVERABLE": "failed",
                "EXPIRED": "failed",
                "REJECTED": "rejected",
            },
        ),
    ),
]
# end
